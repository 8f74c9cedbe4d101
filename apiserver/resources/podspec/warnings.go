package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// TemplateWarnings are what the writer of a pod template should know. old is
// nil on create; what it has already is not told again.
func TemplateWarnings(t, old *corev1.PodTemplateSpec, path *field.Path) []string {
	if old == nil {
		return Warnings(&t.Spec, nil, path.Child("spec"))
	}
	return Warnings(&t.Spec, &old.Spec, path.Child("spec"))
}

// Warnings are what the writer of a pod's specification should know.
func Warnings(spec, old *corev1.PodSpec, path *field.Path) []string {
	var out []string
	if spec.DeprecatedServiceAccount != "" && spec.DeprecatedServiceAccount != spec.ServiceAccountName {
		out = append(out, fmt.Sprintf("%s: deprecated, use serviceAccountName instead", path.Child("serviceAccount")))
	}
	for i, v := range spec.Volumes {
		if v.GitRepo != nil {
			out = append(out, fmt.Sprintf("%s: deprecated in v1.11, and disabled by default in v1.33+", path.Child("volumes").Index(i).Child("gitRepo")))
		}
	}
	for i := range spec.Containers {
		out = append(out, duplicateEnv(&spec.Containers[i], path.Child("containers").Index(i))...)
		out = append(out, duplicatePorts(&spec.Containers[i], path.Child("containers").Index(i))...)
	}
	for i := range spec.InitContainers {
		out = append(out, duplicateEnv(&spec.InitContainers[i], path.Child("initContainers").Index(i))...)
	}
	if spec.TerminationGracePeriodSeconds != nil && *spec.TerminationGracePeriodSeconds < 0 {
		out = append(out, fmt.Sprintf("%s: must be >= 0; negative values are invalid and will be treated as 1", path.Child("terminationGracePeriodSeconds")))
	}
	if old == nil {
		return out
	}
	known := map[string]bool{}
	for _, w := range Warnings(old, nil, path) {
		known[w] = true
	}
	kept := out[:0]
	for _, w := range out {
		if !known[w] {
			kept = append(kept, w)
		}
	}
	return kept
}

func duplicateEnv(c *corev1.Container, path *field.Path) []string {
	var out []string
	seen := map[string]int{}
	for i, e := range c.Env {
		if _, dup := seen[e.Name]; dup {
			out = append(out, fmt.Sprintf("%s: hides previous definition of %q, which may be dropped when using apply", path.Child("env").Index(i), e.Name))
			continue
		}
		seen[e.Name] = i
	}
	return out
}

func duplicatePorts(c *corev1.Container, path *field.Path) []string {
	var out []string
	type key struct {
		port     int32
		protocol corev1.Protocol
	}
	seen := map[key]int{}
	for i, p := range c.Ports {
		k := key{p.ContainerPort, p.Protocol}
		if first, dup := seen[k]; dup {
			out = append(out, fmt.Sprintf("%s: duplicate port definition with %s", path.Child("ports").Index(i), path.Child("ports").Index(first)))
			continue
		}
		seen[k] = i
	}
	return out
}
