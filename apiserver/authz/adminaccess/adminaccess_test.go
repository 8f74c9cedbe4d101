package adminaccess_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/authz/adminaccess"
)

func TestCheck(t *testing.T) {
	spec := func(admin *bool) resourceapi.ResourceClaimSpec {
		return resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{
			{Name: "r", Exactly: &resourceapi.ExactDeviceRequest{DeviceClassName: "c", AdminAccess: admin}},
		}}}
	}
	claim := func(admin *bool) *resourceapi.ResourceClaim { return &resourceapi.ResourceClaim{Spec: spec(admin)} }
	given := func(admin *bool) *resourceapi.ResourceClaim {
		c := claim(nil)
		c.Status.Allocation = &resourceapi.AllocationResult{Devices: resourceapi.DeviceAllocationResult{
			Results: []resourceapi.DeviceRequestAllocationResult{{Request: "r", AdminAccess: admin}},
		}}
		return c
	}
	template := &resourceapi.ResourceClaimTemplate{Spec: resourceapi.ResourceClaimTemplateSpec{Spec: spec(ptr.To(true))}}
	cases := []struct {
		name, namespace, subresource string
		now, old                     runtime.Object
		refused                      bool
	}{
		{name: "a claim in a namespace without the label", namespace: "plain", now: claim(ptr.To(true)), refused: true},
		{name: "a claim where the label says something else", namespace: "other", now: claim(ptr.To(true)), refused: true},
		{name: "a claim in a labelled namespace", namespace: "admin", now: claim(ptr.To(true))},
		{name: "a template", namespace: "plain", now: template, refused: true},
		{name: "a claim without it", namespace: "plain", now: claim(ptr.To(false))},
		{name: "a claim that had it already", namespace: "plain", now: claim(ptr.To(true)), old: claim(ptr.To(true))},
		{name: "a status that gives it", namespace: "plain", subresource: "status", now: given(ptr.To(true)), old: claim(ptr.To(true)), refused: true},
		{name: "a status that gave it already", namespace: "plain", subresource: "status", now: given(ptr.To(true)), old: given(ptr.To(true))},
		{name: "a status without it", namespace: "plain", subresource: "status", now: given(nil), old: claim(nil)},
	}
	named := func(name, label string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{resourceapi.DRAAdminNamespaceLabelKey: label}}}
	}
	client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "plain"}}, named("admin", "true"), named("other", "True"))
	check, err := adminaccess.New(client.CoreV1().Namespaces())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := check.Validate(t.Context(), &admission.Attributes{
				Kind: resourceapi.SchemeGroupVersion.WithKind("ResourceClaim"), Resource: resourceapi.SchemeGroupVersion.WithResource("resourceclaims"),
				Namespace: c.namespace, Name: "x", Subresource: c.subresource, Object: c.now, OldObject: c.old,
			})
			if got := apierrors.IsInvalid(err); got != c.refused || err != nil && !got {
				t.Errorf("refused: %v, %v", got, err)
			}
		})
	}
}
