package objects

import (
	v1 "k8s.io/api/core/v1"
)

// references lists what the pod's spec refers to.
func references(pod *v1.Pod) map[key]bool {
	out := map[key]bool{}
	add := func(kind, name string) {
		if name != "" {
			out[key{kind, pod.Namespace, name}] = true
		}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		add("secret", s.Name)
	}
	env := func(vars []v1.EnvVar, from []v1.EnvFromSource) {
		for _, e := range vars {
			if e.ValueFrom == nil {
				continue
			}
			if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
				add("configmap", r.Name)
			}
			if r := e.ValueFrom.SecretKeyRef; r != nil {
				add("secret", r.Name)
			}
		}
		for _, f := range from {
			if f.ConfigMapRef != nil {
				add("configmap", f.ConfigMapRef.Name)
			}
			if f.SecretRef != nil {
				add("secret", f.SecretRef.Name)
			}
		}
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			env(list[i].Env, list[i].EnvFrom)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		env(pod.Spec.EphemeralContainers[i].Env, pod.Spec.EphemeralContainers[i].EnvFrom)
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.ConfigMap != nil:
			add("configmap", v.ConfigMap.Name)
		case v.Secret != nil:
			add("secret", v.Secret.SecretName)
		case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
			add("secret", v.CSI.NodePublishSecretRef.Name)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.ConfigMap != nil {
					add("configmap", s.ConfigMap.Name)
				}
				if s.Secret != nil {
					add("secret", s.Secret.Name)
				}
			}
		}
	}
	return out
}
