package limitranger_test

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/limitranger"
)

// TestBehindCache has a cache that never fills.
func TestBehindCache(t *testing.T) {
	limits := &v1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "l", Namespace: "limited"}, Spec: v1.LimitRangeSpec{Limits: []v1.LimitRangeItem{
		{Type: v1.LimitTypeContainer, Max: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}},
	}}}
	client := fake.NewClientset(limits)
	p := limitranger.New(informers.NewSharedInformerFactory(client, 0).Core().V1().LimitRanges().Lister(), client)
	check := func(namespace string) error {
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: namespace}, Spec: v1.PodSpec{Containers: []v1.Container{{
			Name: "c", Resources: v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}},
		}}}}
		return p.Validate(t.Context(), &admission.Attributes{
			Operation: admission.Create, Resource: v1.SchemeGroupVersion.WithResource("pods"), Kind: v1.SchemeGroupVersion.WithKind("Pod"),
			Namespace: namespace, Name: "p", Object: pod,
		})
	}
	if err := check("limited"); !apierrors.IsForbidden(err) {
		t.Errorf("a limit range that the cache does not know: %v, want it in force", err)
	}
	client.ClearActions()
	for range 3 {
		if err := check("free"); err != nil {
			t.Error(err)
		}
	}
	if n := len(client.Actions()); n != 1 {
		t.Errorf("the API was asked %d times about a namespace without one, want once", n)
	}
	if err := client.CoreV1().LimitRanges("limited").Delete(t.Context(), "l", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := check("limited"); err != nil {
		t.Errorf("a limit range that is gone: %v, want it out of force", err)
	}
}
