package serviceslices

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

func TestOf(t *testing.T) {
	informer := informers.NewSharedInformerFactory(fake.NewClientset(), 0).Discovery().V1().EndpointSlices().Informer()
	// Every controller that wants it adds it.
	for range 2 {
		if err := Index(informer); err != nil {
			t.Fatal(err)
		}
	}
	for name, of := range map[string][3]string{
		"own": {"a", "web", "me"}, "another": {"a", "web", "other"}, "elsewhere": {"b", "web", "me"}, "next": {"a", "db", "me"}, "nobody's": {"a", "", "me"},
	} {
		s := &discovery.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: of[0], Name: name, Labels: map[string]string{discovery.LabelManagedBy: of[2]}}}
		if of[1] != "" {
			s.Labels[discovery.LabelServiceName] = of[1]
		}
		if err := informer.GetStore().Add(s); err != nil {
			t.Fatal(err)
		}
	}
	names := func(list []*discovery.EndpointSlice, err error) []string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, s := range list {
			out = append(out, s.Name)
		}
		slices.Sort(out)
		return out
	}
	web := types.NamespacedName{Namespace: "a", Name: "web"}
	if diff := cmp.Diff([]string{"another", "own"}, names(Of(informer, web))); diff != "" {
		t.Errorf("all: %s", diff)
	}
	if diff := cmp.Diff([]string{"own"}, names(Managed(informer, web, "me"))); diff != "" {
		t.Errorf("a manager's: %s", diff)
	}
}
