package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// QOSClass is the pod's quality of service: Guaranteed when every container
// (or the pod as a whole) has cpu and memory limits equal to its requests,
// BestEffort when none asks for either, else Burstable.
func QOSClass(pod *corev1.Pod) corev1.PodQOSClass {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	guaranteed := true
	count := func(r corev1.ResourceRequirements) {
		addComputed(requests, r.Requests)
		if addComputed(limits, r.Limits) != 2 {
			guaranteed = false
		}
	}
	if r := pod.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		count(*r)
	} else {
		for i := range pod.Spec.Containers {
			count(pod.Spec.Containers[i].Resources)
		}
		for i := range pod.Spec.InitContainers {
			count(pod.Spec.InitContainers[i].Resources)
		}
	}
	if len(requests) == 0 && len(limits) == 0 {
		return corev1.PodQOSBestEffort
	}
	if guaranteed && len(requests) == len(limits) {
		for name, request := range requests {
			limit, ok := limits[name]
			if !ok || limit.Cmp(request) != 0 {
				return corev1.PodQOSBurstable
			}
		}
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// addComputed adds the positive cpu and memory of more to list and returns how
// many of the two it found.
func addComputed(list, more corev1.ResourceList) int {
	found := 0
	zero := resource.MustParse("0")
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		q, ok := more[name]
		if !ok || q.Cmp(zero) <= 0 {
			continue
		}
		found++
		v := list[name].DeepCopy()
		v.Add(q)
		list[name] = v
	}
	return found
}
