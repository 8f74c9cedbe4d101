package node

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// ownNode lets a node read its own object, and write: NodeRestriction keeps it to its
// own there. It may not delete it, and with it what others wrote of it: a node that
// made itself anew would be without its taints.
func ownNode(node string, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	switch name := attrs.GetName(); attrs.GetSubresource() + ":" + attrs.GetVerb() {
	case ":create", ":update", ":patch", "status:update", "status:patch":
		return yes()
	case ":get", ":list", ":watch":
		switch name {
		case node:
			return yes()
		case "":
			return no(fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", node))
		}
		return no(fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", node, name))
	}
	return no("")
}

// pod lets a node read the pods that are bound to it. NodeRestriction keeps its writes
// to these.
func (a *Authorizer) pod(ctx context.Context, node string, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	mine := func() bool {
		return a.uses(node, func(p *corev1.Pod) bool { return p.Namespace == attrs.GetNamespace() && p.Name == attrs.GetName() })
	}
	switch attrs.GetSubresource() + ":" + attrs.GetVerb() {
	case ":get":
		if soon(ctx, mine) {
			return yes()
		}
		return no(fmt.Sprintf("no relationship found between node '%s' and this object", node))
	case ":list", ":watch":
		requirements, err := attrs.GetFieldSelector()
		if err == nil && ofNode(requirements, node) {
			return yes()
		}
		if attrs.GetName() != "" && soon(ctx, mine) {
			return yes()
		}
		return no("can only list/watch pods with spec.nodeName field selector")
	case ":create", ":delete", "status:update", "status:patch", "eviction:create":
		return yes()
	}
	return no("")
}

func (a *Authorizer) isAttachedTo(node, name string) bool {
	obj, ok, err := a.attachments.GetByKey(name)
	return err == nil && ok && obj.(*storagev1.VolumeAttachment).Spec.NodeName == node
}

// ofNode tells whether only what is on the node is selected.
func ofNode(selected fields.Requirements, node string) bool {
	return slices.ContainsFunc(selected, func(r fields.Requirement) bool {
		return r.Field == "spec.nodeName" && (r.Operator == selection.Equals || r.Operator == selection.DoubleEquals) && r.Value == node
	})
}
