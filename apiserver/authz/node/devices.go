package node

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// usesResourceClaim tells whether the pod uses a claim, its own or one that was
// made from a template.
func usesResourceClaim(p *corev1.Pod, name string) bool {
	for claim := range resourceclaim.PodClaims(p) {
		if claim == name {
			return true
		}
	}
	return false
}

// resourceSlice lets a node deal with the slices of its own devices: those that
// it names, and lists of its own alone. NodeRestriction looks at new ones.
func (a *Authorizer) resourceSlice(node string, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	if attrs.GetSubresource() != "" {
		return no("cannot authorize ResourceSlice subresources")
	}
	switch attrs.GetVerb() {
	case "create":
		return yes()
	case "get", "update", "patch", "delete":
		if obj, ok, err := a.slices.GetByKey(attrs.GetName()); err == nil && ok {
			if s, is := obj.(*resourceapi.ResourceSlice); is && s.Spec.NodeName != nil && *s.Spec.NodeName == node {
				return yes()
			}
		}
		return no(fmt.Sprintf("no relationship found between node '%s' and this object", node))
	case "list", "watch", "deletecollection":
		selected, err := attrs.GetFieldSelector()
		if err != nil {
			return no(err.Error())
		}
		if ofNode(selected, node) {
			return yes()
		}
		return no("can only list/watch/deletecollection resourceslices with nodeName field selector")
	}
	return no("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection")
}
