package core

import corev1 "k8s.io/api/core/v1"

// dropPodStatus leaves out what features that are off say of a pod. A status that has
// it already keeps it.
func dropPodStatus(s, old *corev1.PodStatus) {
	if len(old.VolumeHealth) == 0 {
		s.VolumeHealth = nil
	}
	if len(old.NodeAllocatableResourceClaimStatuses) == 0 {
		s.NodeAllocatableResourceClaimStatuses = nil
	}
}
