// Package extendedresourcetoleration lets pods that ask for an extended
// resource onto nodes that are tainted with its name.
package extendedresourcetoleration

import (
	"context"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "ExtendedResourceToleration"

// Plugin adds tolerations.
type Plugin struct{}

// New makes the plugin.
func New() Plugin { return Plugin{} }

// Name is upstream's.
func (Plugin) Name() string { return Name }

// Handles creations and updates.
func (Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// extended resources lie under a domain that is not Kubernetes' own.
func extended(name string) bool {
	domain, _, ok := strings.Cut(name, "/")
	return ok && !strings.HasSuffix(domain, "kubernetes.io") && !strings.HasPrefix(name, "requests.")
}

// Admit adds one toleration per resource.
func (Plugin) Admit(_ context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") {
		return nil
	}
	names := map[string]bool{}
	for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			for n := range list[i].Resources.Requests {
				if extended(string(n)) {
					names[string(n)] = true
				}
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		t := v1.Toleration{Key: n, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule}
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(o v1.Toleration) bool { return o.MatchToleration(&t) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
		}
	}
	return nil
}
