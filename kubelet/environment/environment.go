// Package environment computes a container's environment variables, and
// answers downward API references. It reads objects through the functions
// that it is given and holds no state.
package environment

import (
	"fmt"
	"sort"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
)

// Var is one variable.
type Var struct {
	Name  string
	Value string
}

// Sources are where variables come from.
type Sources struct {
	ConfigMap func(namespace, name string) (*v1.ConfigMap, error)
	Secret    func(namespace, name string) (*v1.Secret, error)
	// EnvFile reads the variables of a file in one of the pod's volumes.
	EnvFile func(volume, path string) (map[string]string, error)
	// Services are all services, see ServiceVars.
	Services []*v1.Service
	// Allocatable is the node's, for limits that are not set.
	Allocatable v1.ResourceList
	HostIPs     []string
	PodIPs      []string
}

// Build returns the container's variables, sorted by definition: those of
// envFrom, of env, and of services that nothing overrides.
func Build(pod *v1.Pod, c *v1.Container, src Sources) ([]Var, error) {
	b := builder{pod: pod, container: c, src: src, values: map[string]string{}}
	b.services = Map(ServiceVars(src.Services, pod.Namespace, ptr.Deref(pod.Spec.EnableServiceLinks, true)))
	for i := range c.EnvFrom {
		if err := b.from(&c.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		value, ok, err := b.value(&c.Env[i])
		if err != nil {
			return nil, err
		}
		if ok {
			b.set(c.Env[i].Name, value)
		}
	}
	out := make([]Var, 0, len(b.order)+len(b.services))
	for _, name := range b.order {
		out = append(out, Var{name, b.values[name]})
	}
	for _, name := range sortedKeys(b.services) {
		if _, ok := b.values[name]; !ok {
			out = append(out, Var{name, b.services[name]})
		}
	}
	return out, nil
}

type builder struct {
	pod       *v1.Pod
	container *v1.Container
	src       Sources
	services  map[string]string
	values    map[string]string
	order     []string
}

func (b *builder) set(name, value string) {
	if _, ok := b.values[name]; !ok {
		b.order = append(b.order, name)
	}
	b.values[name] = value
}

func (b *builder) from(e *v1.EnvFromSource) error {
	switch {
	case e.ConfigMapRef != nil:
		cm, err := b.src.ConfigMap(b.pod.Namespace, e.ConfigMapRef.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && ptr.Deref(e.ConfigMapRef.Optional, false) {
				return nil
			}
			return err
		}
		for _, k := range sortedKeys(cm.Data) {
			b.set(e.Prefix+k, cm.Data[k])
		}
	case e.SecretRef != nil:
		secret, err := b.src.Secret(b.pod.Namespace, e.SecretRef.Name)
		if err != nil {
			if apierrors.IsNotFound(err) && ptr.Deref(e.SecretRef.Optional, false) {
				return nil
			}
			return err
		}
		for _, k := range sortedKeys(secret.Data) {
			b.set(e.Prefix+k, string(secret.Data[k]))
		}
	}
	return nil
}

// value resolves one variable; false means that an optional source is absent.
func (b *builder) value(e *v1.EnvVar) (string, bool, error) {
	if e.ValueFrom == nil {
		return Expand(e.Value, In(b.values, b.services)), true, nil
	}
	switch from := e.ValueFrom; {
	case from.FieldRef != nil:
		v, err := podField(b.pod, from.FieldRef.FieldPath, b.src.HostIPs, b.src.PodIPs)
		return v, true, err
	case from.ResourceFieldRef != nil:
		v, err := ResourceValue(from.ResourceFieldRef, b.pod, b.container.Name, b.src.Allocatable)
		return v, true, err
	case from.ConfigMapKeyRef != nil:
		return b.configMapKey(from.ConfigMapKeyRef)
	case from.SecretKeyRef != nil:
		return b.secretKey(from.SecretKeyRef)
	case from.FileKeyRef != nil:
		return b.fileKey(from.FileKeyRef)
	}
	return "", false, fmt.Errorf("environment variable %q: valueFrom names no source", e.Name)
}

func (b *builder) configMapKey(ref *v1.ConfigMapKeySelector) (string, bool, error) {
	optional := ptr.Deref(ref.Optional, false)
	cm, err := b.src.ConfigMap(b.pod.Namespace, ref.Name)
	if err != nil {
		if apierrors.IsNotFound(err) && optional {
			return "", false, nil
		}
		return "", false, err
	}
	v, ok := cm.Data[ref.Key]
	if !ok && !optional {
		return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, b.pod.Namespace, ref.Name)
	}
	return v, ok, nil
}

func (b *builder) secretKey(ref *v1.SecretKeySelector) (string, bool, error) {
	optional := ptr.Deref(ref.Optional, false)
	secret, err := b.src.Secret(b.pod.Namespace, ref.Name)
	if err != nil {
		if apierrors.IsNotFound(err) && optional {
			return "", false, nil
		}
		return "", false, err
	}
	v, ok := secret.Data[ref.Key]
	if !ok && !optional {
		return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, b.pod.Namespace, ref.Name)
	}
	return string(v), ok, nil
}

func (b *builder) fileKey(ref *v1.FileKeySelector) (string, bool, error) {
	optional := ptr.Deref(ref.Optional, false)
	if b.src.EnvFile == nil {
		return "", false, fmt.Errorf("volume %q holds no environment files", ref.VolumeName)
	}
	vars, err := b.src.EnvFile(ref.VolumeName, ref.Path)
	if err != nil {
		if optional {
			return "", false, nil
		}
		return "", false, fmt.Errorf("failed to read file %q of volume %q: %w", ref.Path, ref.VolumeName, err)
	}
	v, ok := vars[ref.Key]
	if !ok && !optional {
		return "", false, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, ref.Path)
	}
	return v, ok, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
