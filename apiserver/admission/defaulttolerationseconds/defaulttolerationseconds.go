// Package defaulttolerationseconds lets pods stay five minutes on a node that
// is not ready or not reachable.
package defaulttolerationseconds

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "DefaultTolerationSeconds"

const seconds int64 = 300

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

// Admit adds the tolerations that are missing.
func (Plugin) Admit(_ context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") {
		return nil
	}
	for _, key := range []string{v1.TaintNodeNotReady, v1.TaintNodeUnreachable} {
		has := false
		for _, t := range pod.Spec.Tolerations {
			has = has || ((t.Key == key || t.Key == "") && (t.Effect == v1.TaintEffectNoExecute || t.Effect == ""))
		}
		if !has {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, v1.Toleration{Key: key, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: ptr.To(seconds)})
		}
	}
	return nil
}
