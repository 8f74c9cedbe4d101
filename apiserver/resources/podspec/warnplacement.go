package podspec

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// deprecatedLabel tells of a node's label that has another name now.
func deprecatedLabel(name string) (text string, is bool) {
	switch name {
	case "beta.kubernetes.io/arch":
		return `deprecated since v1.14; use "kubernetes.io/arch" instead`, true
	case "beta.kubernetes.io/os":
		return `deprecated since v1.14; use "kubernetes.io/os" instead`, true
	case "failure-domain.beta.kubernetes.io/region":
		return `deprecated since v1.17; use "topology.kubernetes.io/region" instead`, true
	case "failure-domain.beta.kubernetes.io/zone":
		return `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`, true
	case "beta.kubernetes.io/instance-type":
		return `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`, true
	}
	return "", false
}

// placement warns of deprecated labels, and of terms that select nothing.
func (w *told) placement(spec *corev1.PodSpec, at *field.Path) {
	for _, name := range slices.Sorted(maps.Keys(spec.NodeSelector)) {
		if text, is := deprecatedLabel(name); is {
			w.at(at.Child("nodeSelector").Key(name), "%s", text)
		}
	}
	affinity := spec.Affinity
	if affinity == nil {
		affinity = &corev1.Affinity{}
	}
	const required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
	if n := affinity.NodeAffinity; n != nil {
		at := at.Child("affinity", "nodeAffinity")
		if r := n.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
			for i := range r.NodeSelectorTerms {
				w.nodeTerm(&r.NodeSelectorTerms[i], at.Child(required, "nodeSelectorTerms").Index(i))
			}
		}
		for i := range n.PreferredDuringSchedulingIgnoredDuringExecution {
			w.nodeTerm(&n.PreferredDuringSchedulingIgnoredDuringExecution[i].Preference, at.Child(preferred).Index(i).Child("preference"))
		}
	}
	for i, c := range spec.TopologySpreadConstraints {
		at := at.Child("topologySpreadConstraints").Index(i)
		if text, is := deprecatedLabel(c.TopologyKey); is {
			w.at(at.Child("topologyKey"), "%s is %s", c.TopologyKey, text)
		}
		w.selector(c.LabelSelector, at.Child("labelSelector"))
	}
	terms := func(at *field.Path, must []corev1.PodAffinityTerm, may []corev1.WeightedPodAffinityTerm) {
		for i := range must {
			w.selector(must[i].LabelSelector, at.Child(required).Index(i).Child("labelSelector"))
		}
		for i := range may {
			w.selector(may[i].PodAffinityTerm.LabelSelector, at.Child(preferred).Index(i).Child("podAffinityTerm", "labelSelector"))
		}
	}
	if a := affinity.PodAffinity; a != nil {
		terms(at.Child("affinity", "podAffinity"), a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := affinity.PodAntiAffinity; a != nil {
		terms(at.Child("affinity", "podAntiAffinity"), a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
}

func (w *told) nodeTerm(t *corev1.NodeSelectorTerm, at *field.Path) {
	for i, e := range t.MatchExpressions {
		if text, is := deprecatedLabel(e.Key); is {
			w.at(at.Child("matchExpressions").Index(i).Child("key"), "%s is %s", e.Key, text)
		}
	}
}

func (w *told) selector(s *metav1.LabelSelector, at *field.Path) {
	if s == nil {
		w.at(at, "a null labelSelector results in matching no pod")
	}
}

// annotations warns of those that have become fields.
func (w *told) annotations(spec *corev1.PodSpec, meta *metav1.ObjectMeta, at *field.Path) {
	tell := func(key, text string) {
		if _, has := meta.Annotations[key]; has {
			w.at(at.Key(key), "%s", text)
		}
	}
	tell("scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`)
	tell("security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`)
	tell("security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`)
	const seccomp = `non-functional in v1.27+; use the \"seccompProfile\" field instead`
	if spec.SecurityContext == nil || spec.SecurityContext.SeccompProfile == nil {
		tell("seccomp.security.alpha.kubernetes.io/pod", seccomp)
	}
	eachContainer(spec, nil, func(c *corev1.Container, _ *field.Path) {
		if c.SecurityContext == nil || c.SecurityContext.SeccompProfile == nil {
			tell("container.seccomp.security.alpha.kubernetes.io/"+c.Name, seccomp)
		}
	})
}

// appArmorWarnings are about annotations of templates; those of pods are turned
// into fields.
func appArmorWarnings(t *corev1.PodTemplateSpec, path *field.Path) []string {
	if s := t.Spec.SecurityContext; s != nil && s.AppArmorProfile != nil {
		return nil
	}
	var w told
	eachContainer(&t.Spec, nil, func(c *corev1.Container, _ *field.Path) {
		key := corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + c.Name
		if _, has := t.Annotations[key]; has && (c.SecurityContext == nil || c.SecurityContext.AppArmorProfile == nil) {
			w.at(path.Child("metadata", "annotations").Key(key), `deprecated since v1.30; use the \"appArmorProfile\" field instead`)
		}
	})
	return w
}
