// Package taintnodesbycondition keeps pods off a node until it is known to be ready.
package taintnodesbycondition

import (
	"context"
	"slices"

	v1 "k8s.io/api/core/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "TaintNodesByCondition"

// Plugin taints new nodes.
type Plugin struct{}

// New makes the plugin.
func New() Plugin { return Plugin{} }

// Name is upstream's.
func (Plugin) Name() string { return Name }

// Handles creations.
func (Plugin) Handles(op admission.Operation) bool { return op == admission.Create }

// Admit adds the taint that the node lifecycle controller takes away.
func (Plugin) Admit(_ context.Context, a *admission.Attributes) error {
	n, ok := a.Object.(*v1.Node)
	if !ok || !a.Is("", "nodes") {
		return nil
	}
	t := v1.Taint{Key: v1.TaintNodeNotReady, Effect: v1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(n.Spec.Taints, func(o v1.Taint) bool { return o.MatchTaint(&t) }) {
		n.Spec.Taints = append(n.Spec.Taints, t)
	}
	return nil
}
