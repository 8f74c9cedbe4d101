package claimstatus

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/admission"
)

// rights are the allowed ones, as VERB SUBRESOURCE NAME.
type rights []string

type withRights struct {
	authorizer.Authorizer
	rights
}

func (r withRights) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetAPIGroup() == "resource.k8s.io" && a.GetResource() == "resourceclaims" && a.GetNamespace() == "ns" &&
		slices.Contains(r.rights, a.GetVerb()+" "+a.GetSubresource()+" "+a.GetName()) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func TestCheck(t *testing.T) {
	allocated := func(change ...func(*resourceapi.ResourceClaimStatus)) *resourceapi.ResourceClaim {
		o := &resourceapi.ResourceClaim{}
		o.Status.Allocation = &resourceapi.AllocationResult{NodeSelector: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"n1"}}},
		}}}}
		for _, f := range change {
			f(&o.Status)
		}
		return o
	}
	reserved := func(s *resourceapi.ResourceClaimStatus) {
		s.ReservedFor = []resourceapi.ResourceClaimConsumerReference{{Resource: "pods", Name: "p", UID: "u"}}
	}
	says := func(driver, condition string) func(*resourceapi.ResourceClaimStatus) {
		return func(s *resourceapi.ResourceClaimStatus) {
			s.Devices = append(s.Devices, resourceapi.AllocatedDeviceStatus{Driver: driver, Pool: "p", Device: "d", Conditions: []metav1.Condition{{Type: condition}}})
		}
	}
	account := func(node string) user.Info {
		return &user.DefaultInfo{Name: "system:serviceaccount:kube-system:driver", Extra: map[string][]string{"authentication.kubernetes.io/node-name": {node}}}
	}
	plain := &user.DefaultInfo{Name: "somebody", Extra: map[string][]string{"authentication.kubernetes.io/node-name": {"n1"}}}
	for _, tc := range []struct {
		name     string
		now, old *resourceapi.ResourceClaim
		rights   rights
		user     user.Info
		options  runtime.Object
		refused  string // empty: passes
	}{
		{name: "nothing changes", now: allocated(reserved, says("a", "x")), old: allocated(reserved, says("a", "x"))},
		{name: "an allocation", now: allocated(), old: &resourceapi.ResourceClaim{}, rights: rights{"update binding c"}},
		{name: "an allocation without the right", now: allocated(), old: &resourceapi.ResourceClaim{}, rights: rights{"patch binding c", "arbitrary-node:update driver a"},
			refused: `status: Forbidden: User "somebody" cannot update resource "resourceclaims/binding" in API group "resource.k8s.io" in the namespace "ns"`},
		{name: "a reservation without the right", now: allocated(reserved), old: allocated(), refused: `"resourceclaims/binding"`},
		{name: "a reservation by patch", now: allocated(reserved), old: allocated(), options: &metav1.PatchOptions{}, rights: rights{"patch binding c"}},
		{name: "devices go with their allocation", now: &resourceapi.ResourceClaim{}, old: allocated(says("a", "x")), rights: rights{"update binding c"}},
		{name: "a driver from anywhere", now: allocated(says("a", "x")), old: allocated(), rights: rights{"arbitrary-node:update driver a"}},
		{name: "another driver's device", now: allocated(says("a", "x"), says("b", "y")), old: allocated(says("b", "x")), rights: rights{"arbitrary-node:update driver a"},
			refused: `status.devices: Forbidden: User "somebody" cannot arbitrary-node:update resource "resourceclaims/driver" in API group "resource.k8s.io" in the namespace "ns" for the driver "b"`},
		{name: "another driver's device is taken away", now: allocated(), old: allocated(says("b", "x")), rights: rights{"arbitrary-node:update driver a"}, refused: `for the driver "b"`},
		{name: "a driver on the node", now: allocated(says("a", "x")), old: allocated(), user: account("n1"), rights: rights{"associated-node:update driver a"}},
		{name: "a driver on another node", now: allocated(says("a", "x")), old: allocated(), user: account("n2"), rights: rights{"associated-node:update driver a"}, refused: `for the driver "a"`},
		{name: "no driver, but of the node", now: allocated(says("a", "x")), old: allocated(), rights: rights{"associated-node:update driver a"}, refused: `for the driver "a"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			check, err := New(withRights{rights: tc.rights})
			if err != nil {
				t.Fatal(err)
			}
			a := &admission.Attributes{
				Operation: admission.Update, Kind: resourceapi.SchemeGroupVersion.WithKind("ResourceClaim"), Resource: resourceapi.SchemeGroupVersion.WithResource("resourceclaims"),
				Subresource: "status", Namespace: "ns", Name: "c", Object: tc.now, OldObject: tc.old, Options: tc.options, User: plain,
			}
			if tc.user != nil {
				a.User = tc.user
			}
			err = check.Validate(t.Context(), a)
			if (err != nil) != (tc.refused != "") || err != nil && !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("got %v, want %q", err, tc.refused)
			}
			a.Subresource = ""
			if err := check.Validate(t.Context(), a); err != nil {
				t.Errorf("not the status: %v", err)
			}
		})
	}
}
