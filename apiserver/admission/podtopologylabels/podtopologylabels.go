// Package podtopologylabels gives pods the zone and region of their node as labels, so
// that containers can read them by the downward API (KEP-4742).
package podtopologylabels

import (
	"context"
	"maps"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "PodTopologyLabels"

// Plugin copies labels of nodes.
type Plugin struct {
	nodes corelisters.NodeLister
}

// New makes the plugin.
func New(nodes corelisters.NodeLister) *Plugin { return &Plugin{nodes: nodes} }

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations.
func (*Plugin) Handles(op admission.Operation) bool { return op == admission.Create }

// Admit labels a binding, from where the pod gets its labels, and a pod that names its
// node itself. What the node says goes over what the object says.
func (p *Plugin) Admit(_ context.Context, a *admission.Attributes) error {
	switch obj := a.Object.(type) {
	case *v1.Binding:
		if obj.Target.Kind != "" && obj.Target.Kind != "Node" {
			return nil
		}
		return p.label(&obj.Labels, obj.Target.Name)
	case *v1.Pod:
		if a.Is("", "pods") && obj.Spec.NodeName != "" {
			return p.label(&obj.Labels, obj.Spec.NodeName)
		}
	}
	return nil
}

func (p *Plugin) label(labels *map[string]string, node string) error {
	n, err := p.nodes.Get(node)
	if apierrors.IsNotFound(err) {
		return nil // pods may wait for a node that comes later
	}
	if err != nil {
		return err
	}
	copied := map[string]string{}
	for _, key := range []string{v1.LabelTopologyZone, v1.LabelTopologyRegion} {
		if value, ok := n.Labels[key]; ok {
			copied[key] = value
		}
	}
	if len(copied) == 0 {
		return nil
	}
	if *labels == nil {
		*labels = map[string]string{}
	}
	maps.Copy(*labels, copied)
	return nil
}
