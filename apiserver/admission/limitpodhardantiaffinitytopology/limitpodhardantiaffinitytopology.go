// Package limitpodhardantiaffinitytopology allows required anti-affinity by node only.
package limitpodhardantiaffinitytopology

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "LimitPodHardAntiAffinityTopology"

// Plugin checks pods.
type Plugin struct{}

// New makes the plugin.
func New() Plugin { return Plugin{} }

// Name is upstream's.
func (Plugin) Name() string { return Name }

// Handles creations and updates.
func (Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate refuses other topology keys than the host name.
func (Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") || pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, t := range pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if t.TopologyKey != v1.LabelHostname {
			return admission.Forbidden(a, fmt.Errorf("affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey %v but only key %v is allowed", t.TopologyKey, v1.LabelHostname))
		}
	}
	return nil
}
