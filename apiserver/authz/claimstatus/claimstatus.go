// Package claimstatus holds the rule that who may write the status of ResourceClaims
// needs a right for each part of it: schedulers resourceclaims/binding for what is
// allocated and to whom, drivers resourceclaims/driver, by their name, for what they
// say of their devices (KEP-4817). It is an admission plugin in shape, and always on.
package claimstatus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/admission"
)

// Check is the validator of claims' status.
type Check struct{ auth authorizer.Authorizer }

// New makes the check.
func New(auth authorizer.Authorizer) (*Check, error) {
	if auth == nil {
		return nil, errors.New("claim status check: the authorizer must be set")
	}
	return &Check{auth: auth}, nil
}

// Name of the plugin.
func (*Check) Name() string { return "ResourceClaimStatusCheck" }

// Handles updates.
func (*Check) Handles(op admission.Operation) bool { return op == admission.Update }

// Validate refuses changes of the status that the user has no right to.
func (c *Check) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Resource.Group != resourceapi.GroupName || a.Resource.Resource != "resourceclaims" || a.Subresource != "status" {
		return nil
	}
	now, ok := a.Object.(*resourceapi.ResourceClaim)
	old, ok2 := a.OldObject.(*resourceapi.ResourceClaim)
	if !ok || !ok2 {
		return admission.Forbidden(a, fmt.Errorf("unexpected type %T", a.Object))
	}
	verb := "update"
	if _, ok := a.Options.(*metav1.PatchOptions); ok {
		verb = "patch"
	}
	var errs field.ErrorList
	at := field.NewPath("status")
	if bindingChanged(&now.Status, &old.Status) && !c.may(ctx, a, verb, resourceapi.SubresourceBinding, a.Name) {
		errs = append(errs, field.Forbidden(at, refusal(a, verb, resourceapi.SubresourceBinding)))
	}
	for _, driver := range changedDrivers(&now.Status, &old.Status) {
		if local(a.User, old.Status.Allocation) && c.may(ctx, a, resourceapi.VerbPrefixAssociatedNode+verb, resourceapi.SubresourceDriver, driver) {
			continue
		}
		if verb := resourceapi.VerbPrefixArbitraryNode + verb; !c.may(ctx, a, verb, resourceapi.SubresourceDriver, driver) {
			errs = append(errs, field.Forbidden(at.Child("devices"), refusal(a, verb, resourceapi.SubresourceDriver)+fmt.Sprintf(" for the driver %q", driver)))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(a.Kind.GroupKind(), a.Name, errs)
}

func (c *Check) may(ctx context.Context, a *admission.Attributes, verb, subresource, name string) bool {
	d, _, err := c.auth.Authorize(ctx, authorizer.AttributesRecord{
		User: a.User, Verb: verb, Namespace: a.Namespace, APIGroup: a.Resource.Group, APIVersion: a.Resource.Version,
		Resource: a.Resource.Resource, Subresource: subresource, Name: name, ResourceRequest: true,
	})
	return err == nil && d == authorizer.DecisionAllow
}

func refusal(a *admission.Attributes, verb, subresource string) string {
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q in the namespace %q", a.User.GetName(), verb, a.Resource.Resource+"/"+subresource, a.Resource.Group, a.Namespace)
}

func bindingChanged(now, old *resourceapi.ResourceClaimStatus) bool {
	return !equality.Semantic.DeepEqual(now.Allocation, old.Allocation) || !equality.Semantic.DeepEqual(now.ReservedFor, old.ReservedFor)
}

// changedDrivers are those whose devices' status changes. What goes with its
// allocation is no driver's to say.
func changedDrivers(now, old *resourceapi.ResourceClaimStatus) []string {
	if now.Allocation == nil {
		return nil
	}
	type id struct{ driver, pool, device, share string }
	key := func(d *resourceapi.AllocatedDeviceStatus) id {
		out := id{driver: d.Driver, pool: d.Pool, device: d.Device}
		if d.ShareID != nil {
			out.share = *d.ShareID
		}
		return out
	}
	before, changed := map[id]*resourceapi.AllocatedDeviceStatus{}, map[string]bool{}
	for i := range old.Devices {
		before[key(&old.Devices[i])] = &old.Devices[i]
	}
	for i := range now.Devices {
		k := key(&now.Devices[i])
		if was := before[k]; was == nil || !equality.Semantic.DeepEqual(was, &now.Devices[i]) {
			changed[k.driver] = true
		}
		delete(before, k)
	}
	for k := range before {
		changed[k.driver] = true
	}
	return slices.Sorted(maps.Keys(changed))
}

// local tells whether a service account acts from the node that the devices are of.
func local(u user.Info, a *resourceapi.AllocationResult) bool {
	if u == nil || a == nil || a.NodeSelector == nil {
		return false
	}
	if _, _, err := serviceaccount.SplitUsername(u.GetName()); err != nil {
		return false
	}
	from := u.GetExtra()[serviceaccount.NodeNameKey]
	return len(from) == 1 && from[0] != "" && from[0] == onlyNode(a.NodeSelector)
}

// onlyNode is the one node that the selector is about, empty for none.
func onlyNode(s *corev1.NodeSelector) string {
	if len(s.NodeSelectorTerms) != 1 {
		return ""
	}
	for _, r := range s.NodeSelectorTerms[0].MatchFields {
		if r.Key == metav1.ObjectNameField && r.Operator == corev1.NodeSelectorOpIn && len(r.Values) == 1 {
			return r.Values[0]
		}
	}
	return ""
}
