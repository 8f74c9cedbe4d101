// Package podrefs finds what a pod refers to, in every place where it can.
// Rules that look at some of the places only can be stepped around.
package podrefs

import (
	"iter"

	v1 "k8s.io/api/core/v1"
)

// Container is what containers of each kind have in common.
type Container struct {
	// Kind is how messages name it: "init container", "container", "ephemeral container".
	Kind    string
	Name    string
	Env     []v1.EnvVar
	EnvFrom []v1.EnvFromSource
}

// Containers yields the containers of each kind.
func Containers(spec *v1.PodSpec) iter.Seq[Container] {
	return func(yield func(Container) bool) {
		for i := range spec.InitContainers {
			if c := &spec.InitContainers[i]; !yield(Container{"init container", c.Name, c.Env, c.EnvFrom}) {
				return
			}
		}
		for i := range spec.Containers {
			if c := &spec.Containers[i]; !yield(Container{"container", c.Name, c.Env, c.EnvFrom}) {
				return
			}
		}
		for i := range spec.EphemeralContainers {
			if c := &spec.EphemeralContainers[i]; !yield(Container{"ephemeral container", c.Name, c.Env, c.EnvFrom}) {
				return
			}
		}
	}
}

// Secrets yields the names of the Secrets that a pod refers to.
func Secrets(spec *v1.PodSpec) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, r := range spec.ImagePullSecrets {
			if r.Name != "" && !yield(r.Name) {
				return
			}
		}
		for i := range spec.Volumes {
			for _, name := range volumeSecrets(&spec.Volumes[i]) {
				if name != "" && !yield(name) {
					return
				}
			}
		}
		for c := range Containers(spec) {
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !yield(e.ValueFrom.SecretKeyRef.Name) {
					return
				}
			}
			for _, e := range c.EnvFrom {
				if e.SecretRef != nil && !yield(e.SecretRef.Name) {
					return
				}
			}
		}
	}
}

func volumeSecrets(v *v1.Volume) []string {
	var out []string
	local := func(r *v1.LocalObjectReference) {
		if r != nil {
			out = append(out, r.Name)
		}
	}
	switch {
	case v.Secret != nil:
		out = append(out, v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				out = append(out, s.Secret.Name)
			}
		}
	case v.CSI != nil:
		local(v.CSI.NodePublishSecretRef)
	case v.AzureFile != nil:
		out = append(out, v.AzureFile.SecretName)
	case v.CephFS != nil:
		local(v.CephFS.SecretRef)
	case v.Cinder != nil:
		local(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		local(v.FlexVolume.SecretRef)
	case v.ISCSI != nil:
		local(v.ISCSI.SecretRef)
	case v.RBD != nil:
		local(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		local(v.ScaleIO.SecretRef)
	case v.StorageOS != nil:
		local(v.StorageOS.SecretRef)
	}
	return out
}

// ConfigMaps yields the names of the ConfigMaps that a pod refers to.
func ConfigMaps(spec *v1.PodSpec) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range spec.Volumes {
			v := &spec.Volumes[i]
			if v.ConfigMap != nil && !yield(v.ConfigMap.Name) {
				return
			}
			if v.Projected == nil {
				continue
			}
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil && !yield(s.ConfigMap.Name) {
					return
				}
			}
		}
		for c := range Containers(spec) {
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil && !yield(e.ValueFrom.ConfigMapKeyRef.Name) {
					return
				}
			}
			for _, e := range c.EnvFrom {
				if e.ConfigMapRef != nil && !yield(e.ConfigMapRef.Name) {
					return
				}
			}
		}
	}
}

// Any tells whether something is yielded.
func Any(names iter.Seq[string]) bool {
	for range names {
		return true
	}
	return false
}
