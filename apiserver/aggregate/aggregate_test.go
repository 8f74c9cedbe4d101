package aggregate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	v1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func TestRegistration(t *testing.T) {
	service := func(managed string, priority int32) *v1.APIService {
		s := &v1.APIService{Spec: v1.APIServiceSpec{VersionPriority: priority}}
		if managed != "" {
			s.Labels = map[string]string{managedLabel: managed}
		}
		return s
	}
	for _, c := range []struct {
		name            string
		want, have      *v1.APIService
		settled, before bool
		step            step
	}{
		{name: "nothing", step: leave},
		{name: "missing", want: service(managedAtStart, 1), step: create},
		{name: "deleted by a user after the start", want: service(managedAtStart, 1), settled: true, step: leave},
		{name: "deleted, of a custom resource", want: service(managedAlways, 1), settled: true, step: create},
		{name: "changed before the start", want: service(managedAtStart, 1), have: service(managedAtStart, 2), before: true, step: correct},
		{name: "changed after the start", want: service(managedAtStart, 1), have: service(managedAtStart, 2), settled: true, before: true, step: leave},
		{name: "changed, of a custom resource", want: service(managedAlways, 1), have: service(managedAlways, 2), settled: true, step: correct},
		{name: "a user's own", want: service(managedAlways, 1), have: service("", 2), before: true, step: leave},
		{name: "right", want: service(managedAlways, 1), have: service(managedAlways, 1), step: leave},
		{name: "no longer served", have: service(managedAlways, 1), settled: true, step: remove},
		{name: "no longer served since the last start", have: service(managedAtStart, 1), before: true, step: remove},
		{name: "another server's", have: service(managedAtStart, 1), step: leave},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := registration(c.want, c.have, c.settled, c.before); got != c.step {
				t.Errorf("got %d, want %d", got, c.step)
			}
		})
	}
}

func TestVersionDiscovery(t *testing.T) {
	gv := schema.GroupVersion{Group: "g", Version: "v1"}
	got := versionDiscovery(gv, &metav1.APIResourceList{APIResources: []metav1.APIResource{
		{Name: "things/scale", Kind: "Scale", Group: "autoscaling", Version: "v1", Verbs: []string{"get"}},
		{Name: "things", SingularName: "thing", Namespaced: true, Kind: "Thing", Verbs: []string{"list"}},
		{Name: "lost/status", Kind: "Lost"},
	}})
	want := apidiscovery.APIVersionDiscovery{Version: "v1", Freshness: apidiscovery.DiscoveryFreshnessCurrent, Resources: []apidiscovery.APIResourceDiscovery{{
		Resource: "things", SingularResource: "thing", Scope: apidiscovery.ScopeNamespace, Verbs: []string{"list"},
		ResponseKind: &metav1.GroupVersionKind{Group: "g", Version: "v1", Kind: "Thing"},
		Subresources: []apidiscovery.APISubresourceDiscovery{{
			Subresource: "scale", ResponseKind: &metav1.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}, Verbs: []string{"get"},
		}},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestGroupVersionOf(t *testing.T) {
	for path, want := range map[string]schema.GroupVersion{
		"/apis/g/v1": {Group: "g", Version: "v1"}, "/apis/g/v1/namespaces/x/things": {Group: "g", Version: "v1"},
		"/api/v1/pods": {Version: "v1"}, "/apis/g": {}, "/api": {}, "/version": {},
	} {
		if got, ok := groupVersionOf(path); got != want || ok != (want.Version != "") {
			t.Errorf("%s: %v, %v", path, got, ok)
		}
	}
}
