package aggregate

import (
	"cmp"
	"slices"
	"strings"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/discovery"
)

// found is what a server says of a group version.
type found struct {
	list    []byte
	version apidiscovery.APIVersionDiscovery
	// v3 and v2 are the OpenAPI documents as they were read last.
	v3, v2 seen
}

// versionDiscovery is a resource list in the form of aggregated discovery.
func versionDiscovery(gv schema.GroupVersion, list *metav1.APIResourceList) apidiscovery.APIVersionDiscovery {
	out := apidiscovery.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent}
	at := map[string]int{}
	kind := func(r *metav1.APIResource) *metav1.GroupVersionKind {
		k := &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: r.Kind}
		if r.Version != "" {
			k.Group, k.Version = r.Group, r.Version
		}
		return k
	}
	for i := range list.APIResources {
		r := &list.APIResources[i]
		if strings.Contains(r.Name, "/") {
			continue
		}
		scope := apidiscovery.ScopeCluster
		if r.Namespaced {
			scope = apidiscovery.ScopeNamespace
		}
		at[r.Name] = len(out.Resources)
		out.Resources = append(out.Resources, apidiscovery.APIResourceDiscovery{
			Resource: r.Name, SingularResource: r.SingularName, Scope: scope, Verbs: r.Verbs, ShortNames: r.ShortNames,
			Categories: r.Categories, ResponseKind: kind(r),
		})
	}
	for i := range list.APIResources {
		r := &list.APIResources[i]
		parent, sub, ok := strings.Cut(r.Name, "/")
		n, known := at[parent]
		if !ok || !known {
			continue
		}
		out.Resources[n].Subresources = append(out.Resources[n].Subresources,
			apidiscovery.APISubresourceDiscovery{Subresource: sub, ResponseKind: kind(r), Verbs: r.Verbs})
	}
	return out
}

// External are the groups that other servers serve. A version whose server does not
// answer is shown as it was, and as stale.
func (a *Aggregator) External() []discovery.External {
	a.mu.Lock()
	defer a.mu.Unlock()
	type entry struct {
		*route
		version apidiscovery.APIVersionDiscovery
	}
	groups := map[string][]entry{}
	for gv, r := range *a.routes.Load() {
		e := entry{r, apidiscovery.APIVersionDiscovery{Version: gv.Version}}
		if f := a.found[gv]; f != nil {
			e.version = f.version
		}
		if !r.available {
			e.version.Freshness = apidiscovery.DiscoveryFreshnessStale
		}
		groups[gv.Group] = append(groups[gv.Group], e)
	}
	var out []discovery.External
	for name, list := range groups {
		slices.SortFunc(list, func(a, b entry) int {
			return cmp.Or(-cmp.Compare(a.spec.VersionPriority, b.spec.VersionPriority), cmp.Compare(a.spec.Version, b.spec.Version))
		})
		e := discovery.External{}
		e.Group.Name = name
		for _, v := range list {
			e.Priority = max(e.Priority, int(v.spec.GroupPriorityMinimum))
			e.Group.Versions = append(e.Group.Versions, v.version)
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b discovery.External) int {
		return cmp.Or(-cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Group.Name, b.Group.Name))
	})
	return out
}
