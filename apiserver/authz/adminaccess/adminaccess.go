// Package adminaccess holds the rule that only namespaces with the label
// resource.kubernetes.io/admin-access may ask for devices that others use (KEP-5018). It
// is an admission plugin in shape, and always on: who may label namespaces is trusted
// with devices, who may make claims is not.
package adminaccess

import (
	"context"
	"errors"
	"fmt"
	"slices"

	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
)

// Check is the validator of claims and their templates.
type Check struct{ namespaces typedcore.NamespaceInterface }

// New makes the check. It asks for a namespace when one is needed, rarely.
func New(namespaces typedcore.NamespaceInterface) (*Check, error) {
	if namespaces == nil {
		return nil, errors.New("device admin access check: namespaces must be set")
	}
	return &Check{namespaces: namespaces}, nil
}

// Name of the plugin.
func (*Check) Name() string { return "DeviceAdminAccessCheck" }

// Handles writes.
func (*Check) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate refuses administrative access that comes new in a namespace without the label.
// What was let in stays writable when the label goes, so that it can be taken away.
func (c *Check) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Resource.Group != resourceapi.GroupName || !administers(a.Object, a.Subresource) || administers(a.OldObject, a.Subresource) {
		return nil
	}
	ns, err := c.namespaces.Get(ctx, a.Namespace, metav1.GetOptions{})
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("could not retrieve namespace to verify admin access: %w", err))
	}
	if ns.Labels[resourceapi.DRAAdminNamespaceLabelKey] == "true" {
		return nil
	}
	return apierrors.NewInvalid(a.Kind.GroupKind(), a.Name, field.ErrorList{field.Forbidden(nil,
		fmt.Sprintf("admin access to devices requires the `%s: true` label on the containing namespace", resourceapi.DRAAdminNamespaceLabelKey))})
}

// administers tells whether a claim or template asks for, or a claim's status gives,
// administrative access.
func administers(o any, subresource string) bool {
	switch o := o.(type) {
	case *resourceapi.ResourceClaimTemplate:
		return o != nil && asks(o.Spec.Spec)
	case *resourceapi.ResourceClaim:
		if o == nil {
			return false
		}
		if subresource == "status" {
			return o.Status.Allocation != nil && slices.ContainsFunc(o.Status.Allocation.Devices.Results, func(r resourceapi.DeviceRequestAllocationResult) bool {
				return ptr.Deref(r.AdminAccess, false)
			})
		}
		return asks(o.Spec)
	}
	return false
}

func asks(s resourceapi.ResourceClaimSpec) bool {
	return slices.ContainsFunc(s.Devices.Requests, func(r resourceapi.DeviceRequest) bool {
		return r.Exactly != nil && ptr.Deref(r.Exactly.AdminAccess, false)
	})
}
