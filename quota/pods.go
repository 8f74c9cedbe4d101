package quota

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/resource"
)

const (
	requestsPrefix = "requests."
	limitsPrefix   = "limits."
)

// Pods counts pods and the resources that they ask for.
type Pods struct {
	// Now tells time: a pod past its deletion costs nothing.
	Now func() time.Time
}

// Resource is pods.
func (Pods) Resource() schema.GroupResource { return schema.GroupResource{Resource: "pods"} }

var podNames = []v1.ResourceName{
	v1.ResourcePods, v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage,
	v1.ResourceRequestsCPU, v1.ResourceRequestsMemory, v1.ResourceRequestsEphemeralStorage,
	v1.ResourceLimitsCPU, v1.ResourceLimitsMemory, v1.ResourceLimitsEphemeralStorage,
	"count/pods",
}

// computeNames are what every container must say where a quota bounds it.
var computeNames = []v1.ResourceName{
	v1.ResourceCPU, v1.ResourceMemory, v1.ResourceRequestsCPU, v1.ResourceRequestsMemory, v1.ResourceLimitsCPU, v1.ResourceLimitsMemory,
}

// Tracks says whether name is about pods.
func (Pods) Tracks(name v1.ResourceName) bool {
	if slices.Contains(podNames, name) || strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix) {
		return true
	}
	rest, ok := strings.CutPrefix(string(name), requestsPrefix)
	return ok && (strings.HasPrefix(rest, v1.ResourceHugePagesPrefix) || extended(rest))
}

// extended says whether the resource is offered by nodes under a domain that
// is not Kubernetes' own, or stands for the devices of a class.
func extended(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return ok && (!strings.HasSuffix(domain, "kubernetes.io") || strings.HasPrefix(name, resourceapi.ResourceDeviceClassPrefix))
}

// Quotable says whether the pod still costs something.
func (p Pods) Quotable(pod *v1.Pod) bool {
	if pod.Status.Phase == v1.PodFailed || pod.Status.Phase == v1.PodSucceeded {
		return false
	}
	if pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil {
		end := pod.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
		return !p.Now().After(end)
	}
	return true
}

// Usage is what the pod asks for; the count itself lasts until it is gone.
func (p Pods) Usage(obj runtime.Object) (v1.ResourceList, error) {
	pod, ok := obj.(*v1.Pod)
	if !ok {
		return nil, fmt.Errorf("quota: %T is no pod", obj)
	}
	out := v1.ResourceList{"count/pods": one()}
	if !p.Quotable(pod) {
		return out, nil
	}
	out[v1.ResourcePods] = one()
	options := resource.PodResourcesOptions{UseStatusResources: true}
	for name, q := range resource.PodRequests(pod, options) {
		switch {
		case name == v1.ResourceCPU || name == v1.ResourceMemory || name == v1.ResourceEphemeralStorage:
			out[name] = q
			out[requestsPrefix+name] = q
		case strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix):
			out[name] = q
			out[requestsPrefix+name] = q
		case extended(string(name)):
			out[requestsPrefix+name] = q
		}
	}
	for name, q := range resource.PodLimits(pod, options) {
		if name == v1.ResourceCPU || name == v1.ResourceMemory || name == v1.ResourceEphemeralStorage {
			out[limitsPrefix+name] = q
		}
	}
	return out, nil
}

// Constrain refuses a pod whose containers leave out what the quota bounds.
func (p Pods) Constrain(required []v1.ResourceName, obj runtime.Object) error {
	pod, ok := obj.(*v1.Pod)
	if !ok {
		return fmt.Errorf("quota: %T is no pod", obj)
	}
	var bounded []v1.ResourceName
	for _, name := range required {
		if slices.Contains(computeNames, name) {
			bounded = append(bounded, name)
		}
	}
	if pod.Spec.Resources != nil && (len(pod.Spec.Resources.Requests) > 0 || len(pod.Spec.Resources.Limits) > 0) {
		missing := slices.DeleteFunc(slices.Clone(bounded), func(n v1.ResourceName) bool { return asks(*pod.Spec.Resources, n) })
		// What the pod leaves out, all of its containers together must give.
		bounded = missing
	}
	var refused []string
	check := func(containers []v1.Container) {
		for _, c := range containers {
			for _, name := range bounded {
				if !asks(c.Resources, name) {
					refused = append(refused, fmt.Sprintf("%s for: %s", name, c.Name))
				}
			}
		}
	}
	check(pod.Spec.Containers)
	check(pod.Spec.InitContainers)
	if len(refused) == 0 {
		return nil
	}
	return fmt.Errorf("must specify %s", joinMissing(refused))
}

// joinMissing groups "name for: container" by name, in order.
func joinMissing(refused []string) string {
	var order []string
	containers := map[string][]string{}
	for _, r := range refused {
		name, container, _ := strings.Cut(r, " for: ")
		if containers[name] == nil {
			order = append(order, name)
		}
		containers[name] = append(containers[name], container)
	}
	slices.Sort(order)
	out := make([]string, len(order))
	for i, name := range order {
		out[i] = name + " for: " + strings.Join(slices.Compact(slices.Sorted(slices.Values(containers[name]))), ",")
	}
	return strings.Join(out, "; ")
}

func asks(r v1.ResourceRequirements, name v1.ResourceName) bool {
	if rest, ok := strings.CutPrefix(string(name), limitsPrefix); ok {
		_, given := r.Limits[v1.ResourceName(rest)]
		return given
	}
	_, given := r.Requests[v1.ResourceName(strings.TrimPrefix(string(name), requestsPrefix))]
	return given
}

// InScope matches the pod against a scope.
func (Pods) InScope(s v1.ScopedResourceSelectorRequirement, obj runtime.Object) (bool, error) {
	pod, ok := obj.(*v1.Pod)
	if !ok {
		return false, fmt.Errorf("quota: %T is no pod", obj)
	}
	switch s.ScopeName {
	case v1.ResourceQuotaScopeTerminating:
		return terminating(pod), nil
	case v1.ResourceQuotaScopeNotTerminating:
		return !terminating(pod), nil
	case v1.ResourceQuotaScopeBestEffort:
		return bestEffort(pod), nil
	case v1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(pod), nil
	case v1.ResourceQuotaScopePriorityClass:
		if s.Operator == v1.ScopeSelectorOpExists {
			return pod.Spec.PriorityClassName != "", nil
		}
		return matchValue(s, pod.Spec.PriorityClassName, pod.Spec.PriorityClassName != "")
	case v1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossNamespace(pod), nil
	}
	return false, nil
}

// CountsUpdate is true for resize, which changes what a running pod asks for.
func (Pods) CountsUpdate(subresource string) bool {
	return subresource == "resize" || subresource == ""
}

func terminating(pod *v1.Pod) bool {
	return pod.Spec.ActiveDeadlineSeconds != nil && *pod.Spec.ActiveDeadlineSeconds >= 0
}

func bestEffort(pod *v1.Pod) bool {
	counts := func(l v1.ResourceList) bool {
		for _, n := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
			if q, ok := l[n]; ok && !q.IsZero() {
				return true
			}
		}
		return false
	}
	if r := pod.Spec.Resources; r != nil && (counts(r.Requests) || counts(r.Limits)) {
		return false
	}
	for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for _, c := range list {
			if counts(c.Resources.Requests) || counts(c.Resources.Limits) {
				return false
			}
		}
	}
	return true
}

func crossNamespace(pod *v1.Pod) bool {
	a := pod.Spec.Affinity
	if a == nil {
		return false
	}
	var terms []v1.PodAffinityTerm
	if a.PodAffinity != nil {
		terms = append(terms, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, w := range a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, w.PodAffinityTerm)
		}
	}
	if a.PodAntiAffinity != nil {
		terms = append(terms, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, w := range a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, w.PodAffinityTerm)
		}
	}
	return slices.ContainsFunc(terms, func(t v1.PodAffinityTerm) bool {
		return len(t.Namespaces) > 0 || t.NamespaceSelector != nil
	})
}
