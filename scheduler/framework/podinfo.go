package framework

import (
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
)

// AffinityTerm is a parsed pod (anti-)affinity term.
type AffinityTerm struct {
	Namespaces        sets.Set[string]
	Selector          labels.Selector
	TopologyKey       string
	NamespaceSelector labels.Selector
}

// WeightedAffinityTerm is a preferred term.
type WeightedAffinityTerm struct {
	AffinityTerm
	Weight int32
}

// Matches is true when the term selects pod; nsLabels are its namespace's labels, nil when unknown.
func (t *AffinityTerm) Matches(pod *v1.Pod, nsLabels labels.Set) bool {
	if t.Namespaces.Has(pod.Namespace) || t.NamespaceSelector.Matches(nsLabels) {
		return t.Selector.Matches(labels.Set(pod.Labels))
	}
	return false
}

// PodInfo is a pod with what the plugins need parsed once. It is immutable.
type PodInfo struct {
	Pod                            *v1.Pod
	RequiredAffinityTerms          []AffinityTerm
	RequiredAntiAffinityTerms      []AffinityTerm
	PreferredAffinityTerms         []WeightedAffinityTerm
	PreferredAntiAffinityTerms     []WeightedAffinityTerm
	Requests, NonZeroRequests      Resource
	hasAffinity, hasRequiredAntiAf bool
}

// NewPodInfo parses pod. The error joins those of unparsable selectors; the info is usable still.
func NewPodInfo(pod *v1.Pod) (*PodInfo, error) {
	pi := &PodInfo{Pod: pod, Requests: NewResource(PodRequests(pod)), NonZeroRequests: NewResource(podNonZeroRequests(pod))}
	a := pod.Spec.Affinity
	if a == nil || (a.PodAffinity == nil && a.PodAntiAffinity == nil) {
		return pi, nil
	}
	var errs []error
	required := func(in []v1.PodAffinityTerm) []AffinityTerm {
		var out []AffinityTerm
		for i := range in {
			t, err := parseTerm(pod, &in[i])
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, t)
		}
		return out
	}
	preferred := func(in []v1.WeightedPodAffinityTerm) []WeightedAffinityTerm {
		var out []WeightedAffinityTerm
		for i := range in {
			t, err := parseTerm(pod, &in[i].PodAffinityTerm)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, WeightedAffinityTerm{AffinityTerm: t, Weight: in[i].Weight})
		}
		return out
	}
	if pa := a.PodAffinity; pa != nil {
		pi.RequiredAffinityTerms = required(pa.RequiredDuringSchedulingIgnoredDuringExecution)
		pi.PreferredAffinityTerms = preferred(pa.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if pa := a.PodAntiAffinity; pa != nil {
		pi.RequiredAntiAffinityTerms = required(pa.RequiredDuringSchedulingIgnoredDuringExecution)
		pi.PreferredAntiAffinityTerms = preferred(pa.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	pi.hasRequiredAntiAf = len(pi.RequiredAntiAffinityTerms) > 0
	pi.hasAffinity = pi.hasRequiredAntiAf || len(pi.RequiredAffinityTerms)+len(pi.PreferredAffinityTerms)+len(pi.PreferredAntiAffinityTerms) > 0
	return pi, errors.Join(errs...)
}

func parseTerm(pod *v1.Pod, t *v1.PodAffinityTerm) (AffinityTerm, error) {
	sel, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil {
		return AffinityTerm{}, fmt.Errorf("parsing pod affinity label selector of %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	ns := sets.New(t.Namespaces...)
	if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
		ns = sets.New(pod.Namespace)
	}
	nsSel, err := metav1.LabelSelectorAsSelector(t.NamespaceSelector)
	if err != nil {
		return AffinityTerm{}, fmt.Errorf("parsing pod affinity namespace selector of %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return AffinityTerm{Namespaces: ns, Selector: sel, TopologyKey: t.TopologyKey, NamespaceSelector: nsSel}, nil
}
