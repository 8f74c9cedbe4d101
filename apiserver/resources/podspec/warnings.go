package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// TemplateWarnings are what the writer of a pod template should know.
func TemplateWarnings(t *corev1.PodTemplateSpec, path *field.Path) []string {
	return append(warnings(&t.Spec, &t.ObjectMeta, path), appArmorWarnings(t, path)...)
}

// Warnings are what the writer of a pod should know.
func Warnings(pod *corev1.Pod) []string { return warnings(&pod.Spec, &pod.ObjectMeta, nil) }

// told collects warnings.
type told []string

func (w *told) at(path *field.Path, format string, args ...any) {
	*w = append(*w, path.String()+": "+fmt.Sprintf(format, args...))
}

// warnings are those of a pod or template that is at path.
func warnings(spec *corev1.PodSpec, meta *metav1.ObjectMeta, path *field.Path) []string {
	var w told
	at := path.Child("spec")
	w.placement(spec, at)
	w.annotations(spec, meta, path.Child("metadata", "annotations"))
	for i := range spec.Volumes {
		w.volume(&spec.Volumes[i], at.Child("volumes").Index(i))
	}
	w = append(w, overlaps(spec.Volumes)...)
	if spec.DeprecatedServiceAccount != "" && spec.DeprecatedServiceAccount != spec.ServiceAccountName {
		w.at(at.Child("serviceAccount"), "deprecated, use serviceAccountName instead")
	}
	w.duplicates(spec, at)
	w.wholeBytes(spec.Overhead, at.Child("overhead"))
	eachContainer(spec, at, func(c *corev1.Container, at *field.Path) {
		w.wholeBytes(c.Resources.Limits, at.Child("resources", "limits"))
		w.wholeBytes(c.Resources.Requests, at.Child("resources", "requests"))
		w.env(c, at.Child("env"))
	})
	w.ports(spec, at)
	if spec.TerminationGracePeriodSeconds != nil && *spec.TerminationGracePeriodSeconds < 0 {
		w.at(at.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	return w
}

// eachContainer visits the containers of all kinds in the order that clients
// know from upstream.
func eachContainer(spec *corev1.PodSpec, at *field.Path, visit func(*corev1.Container, *field.Path)) {
	for i := range spec.InitContainers {
		visit(&spec.InitContainers[i], at.Child("initContainers").Index(i))
	}
	for i := range spec.Containers {
		visit(&spec.Containers[i], at.Child("containers").Index(i))
	}
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		visit(&c, at.Child("ephemeralContainers").Index(i))
	}
}

func (w *told) duplicates(spec *corev1.PodSpec, at *field.Path) {
	seen := map[string]bool{}
	for i, a := range spec.HostAliases {
		if seen[a.IP] {
			w.at(at.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", a.IP)
		}
		seen[a.IP] = true
	}
	seen = map[string]bool{}
	for i, s := range spec.ImagePullSecrets {
		if seen[s.Name] {
			w.at(at.Child("imagePullSecrets").Index(i).Child("name"), "duplicate name %q", s.Name)
		}
		seen[s.Name] = true
	}
	for i, s := range spec.ImagePullSecrets {
		if s.Name == "" {
			w.at(at.Child("imagePullSecrets").Index(i).Child("name"), "invalid empty name %q", s.Name)
		}
	}
}

// wholeBytes are warnings about thousandths of bytes.
func (w *told) wholeBytes(list corev1.ResourceList, at *field.Path) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if q, ok := list[name]; ok && fractional(q) {
			w.at(at.Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
		}
	}
}

func fractional(q resource.Quantity) bool { return q.MilliValue()%1000 != 0 }

// env warns of variables that hide earlier ones without making use of them.
func (w *told) env(c *corev1.Container, at *field.Path) {
	seen := map[string]bool{}
	for i, e := range c.Env {
		ref := "$(" + e.Name + ")"
		if seen[e.Name] && (e.ValueFrom != nil || e.Value == ref || !strings.Contains(e.Value, ref)) {
			w.at(at.Index(i), "hides previous definition of %q, which may be dropped when using apply", e.Name)
		}
		seen[e.Name] = true
	}
}

func (w *told) ports(spec *corev1.PodSpec, at *field.Path) {
	type key struct {
		port     int32
		protocol corev1.Protocol
	}
	type place struct {
		at   *field.Path
		port corev1.ContainerPort
	}
	all := map[key][]place{}
	eachContainer(spec, at, func(c *corev1.Container, at *field.Path) {
		for i, p := range c.Ports {
			here := at.Child("ports").Index(i)
			if p.HostIP != "" && p.HostPort == 0 {
				w.at(here, "hostIP set without hostPort: %+v", p)
			}
			k := key{p.ContainerPort, p.Protocol}
			for _, other := range all[k] {
				o := other.port
				switch {
				case p.HostIP == o.HostIP && p.HostPort == o.HostPort:
					w.at(here, "duplicate port definition with %s", other.at)
				case p.HostPort == 0 || o.HostPort == 0:
					w.at(here, "overlapping port definition with %s", other.at)
				case p.HostPort == o.HostPort && (p.HostIP == "") != (o.HostIP == ""):
					w.at(here, "dangerously ambiguous port definition with %s", other.at)
				}
			}
			all[k] = append(all[k], place{here, p})
		}
	})
}
