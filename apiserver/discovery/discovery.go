// Package discovery tells clients which groups, versions and resources are
// served: each version's list, the list of groups, and all in one document.
//
// The documents are made when the set of resources changes, not at each request.
package discovery

import (
	"cmp"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apimachineryversion "k8s.io/apimachinery/pkg/version"

	"skiff/apiserver/handlers"
	"skiff/apiserver/resources"
)

// Discovery serves the documents.
type Discovery struct {
	docs atomic.Pointer[documents]
	// order is the preference of groups; what is not named comes after, by name.
	order map[string]int
}

// documents are all answers, encoded by format.
type documents struct {
	groups     *metav1.APIGroupList
	byGroup    map[string]*metav1.APIGroup
	byVersion  map[schema.GroupVersion]*metav1.APIResourceList
	aggregated *apidiscovery.APIGroupDiscoveryList
	core       *apidiscovery.APIGroupDiscoveryList
	etag       map[bool]string
}

// Served is one resource with the versions that are switched on.
type Served struct {
	Resource *resources.Resource
	Versions []string
}

// External are groups served by others (aggregated servers), or whose order was
// asked for: discovery lists them as they are given.
type External struct {
	Group    apidiscovery.APIGroupDiscovery
	Priority int
}

// New makes an empty discovery. order is the preference of groups.
func New(order []string) *Discovery {
	d := &Discovery{order: map[string]int{}}
	for i, g := range order {
		d.order[g] = i
	}
	d.Set(nil, nil)
	return d
}

// Set replaces what is served.
func (d *Discovery) Set(served []Served, external []External) {
	docs := &documents{
		groups:    &metav1.APIGroupList{Groups: []metav1.APIGroup{}},
		byGroup:   map[string]*metav1.APIGroup{},
		byVersion: map[schema.GroupVersion]*metav1.APIResourceList{},
		etag:      map[bool]string{},
	}
	groups := map[string]map[string][]*resources.Resource{}
	for _, s := range served {
		g := s.Resource.Group
		if groups[g] == nil {
			groups[g] = map[string][]*resources.Resource{}
		}
		for _, v := range s.Versions {
			groups[g][v] = append(groups[g][v], s.Resource)
		}
	}
	var all []apidiscovery.APIGroupDiscovery
	for _, name := range d.sorted(groups) {
		g := apidiscovery.APIGroupDiscovery{}
		g.Name = name
		for _, version := range sortedVersions(groups[name]) {
			list := groups[name][version]
			slices.SortFunc(list, func(a, b *resources.Resource) int { return cmp.Compare(a.Plural, b.Plural) })
			gv := schema.GroupVersion{Group: name, Version: version}
			docs.byVersion[gv] = versionList(gv, list)
			g.Versions = append(g.Versions, versionDiscovery(gv, list))
		}
		all = append(all, g)
	}
	for _, e := range external {
		// A group may be served in parts: this server's versions come first.
		at := slices.IndexFunc(all, func(g apidiscovery.APIGroupDiscovery) bool { return g.Name == e.Group.Name })
		if at < 0 {
			all = append(all, e.Group)
			continue
		}
		all[at].Versions = append(all[at].Versions, e.Group.Versions...)
	}
	core := &apidiscovery.APIGroupDiscoveryList{}
	rest := &apidiscovery.APIGroupDiscoveryList{}
	for _, g := range all {
		if g.Name == "" {
			core.Items = append(core.Items, g)
			continue
		}
		rest.Items = append(rest.Items, g)
		group := legacyGroup(&g)
		docs.byGroup[g.Name] = group
		docs.groups.Groups = append(docs.groups.Groups, *group)
	}
	docs.aggregated, docs.core = rest, core
	for isCore, l := range map[bool]*apidiscovery.APIGroupDiscoveryList{true: core, false: rest} {
		b, err := json.Marshal(l)
		if err == nil {
			docs.etag[isCore] = fmt.Sprintf("%X", sha512.Sum512(b))
		}
	}
	d.docs.Store(docs)
}

func (d *Discovery) sorted(groups map[string]map[string][]*resources.Resource) []string {
	names := make([]string, 0, len(groups))
	for g := range groups {
		names = append(names, g)
	}
	rank := func(g string) int {
		if r, ok := d.order[g]; ok {
			return r
		}
		return len(d.order)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	return names
}

// sortedVersions orders versions as Kubernetes prefers them: v2, v1, v1beta1, …
func sortedVersions(m map[string][]*resources.Resource) []string {
	out := make([]string, 0, len(m))
	for v := range m {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b string) int { return -apimachineryversion.CompareKubeAwareVersionStrings(a, b) })
	return out
}

func legacyGroup(g *apidiscovery.APIGroupDiscovery) *metav1.APIGroup {
	out := &metav1.APIGroup{Name: g.Name}
	for _, v := range g.Versions {
		gv := schema.GroupVersion{Group: g.Name, Version: v.Version}.String()
		out.Versions = append(out.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv, Version: v.Version})
	}
	if len(out.Versions) > 0 {
		out.PreferredVersion = out.Versions[0]
	}
	return out
}

// StorageHash names the type that a resource is stored as, without telling it.
func StorageHash(r *resources.Resource) string {
	group := r.Group
	if !r.SharesStoreWith.Empty() {
		group = r.SharesStoreWith.Group
	}
	sum := sha256.Sum256([]byte(group + "/" + r.Hub + "/" + r.Kind))
	return base64.StdEncoding.EncodeToString(sum[:8])
}

func versionList(gv schema.GroupVersion, list []*resources.Resource) *metav1.APIResourceList {
	out := &metav1.APIResourceList{GroupVersion: gv.String(), APIResources: []metav1.APIResource{}}
	for _, r := range list {
		ar := metav1.APIResource{
			Name: r.Plural, SingularName: r.Singular, Namespaced: r.Namespaced, Kind: r.Kind,
			Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
		}
		if r.Virtual == "" {
			ar.StorageVersionHash = StorageHash(r)
		}
		out.APIResources = append(out.APIResources, ar)
		for _, name := range subresourceNames(r) {
			s := r.Subresources[name]
			sub := metav1.APIResource{Name: r.Plural + "/" + name, Namespaced: r.Namespaced, Kind: cmp.Or(s.Kind, r.Kind), Verbs: s.Verbs}
			if s.Kind != "" && (s.Group != gv.Group || s.Version != "" && s.Version != gv.Version) && s.Version != "" {
				sub.Group, sub.Version = s.Group, s.Version
			}
			out.APIResources = append(out.APIResources, sub)
		}
	}
	return out
}

func subresourceNames(r *resources.Resource) []string {
	names := make([]string, 0, len(r.Subresources))
	for name := range r.Subresources {
		names = append(names, name)
	}
	slices.Sort(names)
	// The status of custom resources stands before their scale.
	if at := slices.Index(names, "scale"); at >= 0 && r.Subresources["scale"].Scale != nil && at+1 < len(names) {
		names[at], names[at+1] = names[at+1], names[at]
	}
	return names
}

func versionDiscovery(gv schema.GroupVersion, list []*resources.Resource) apidiscovery.APIVersionDiscovery {
	out := apidiscovery.APIVersionDiscovery{Version: gv.Version, Freshness: apidiscovery.DiscoveryFreshnessCurrent}
	for _, r := range list {
		scope := apidiscovery.ScopeCluster
		if r.Namespaced {
			scope = apidiscovery.ScopeNamespace
		}
		rd := apidiscovery.APIResourceDiscovery{
			Resource: r.Plural, SingularResource: r.Singular, Scope: scope, Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
			// Group and version are told where they are other than the list's.
			ResponseKind: &metav1.GroupVersionKind{Kind: r.Kind},
		}
		for _, name := range subresourceNames(r) {
			s := r.Subresources[name]
			kind := &metav1.GroupVersionKind{Kind: cmp.Or(s.Kind, r.Kind)}
			if s.Kind != "" && s.Version != "" && (s.Group != gv.Group || s.Version != gv.Version) {
				kind.Group, kind.Version = s.Group, s.Version
			}
			rd.Subresources = append(rd.Subresources, apidiscovery.APISubresourceDiscovery{Subresource: name, ResponseKind: kind, Verbs: s.Verbs})
		}
		out.Resources = append(out.Resources, rd)
	}
	return out
}

// Serves tells whether there is a group of the name.
func (d *Discovery) Serves(group string) bool {
	_, ok := d.docs.Load().byGroup[group]
	return ok
}

// version is the list of a group version's resources, by the parts of its path.
func (d *documents) version(parts []string) *metav1.APIResourceList {
	switch {
	case len(parts) == 2 && parts[0] == "api":
		return d.byVersion[schema.GroupVersion{Version: parts[1]}]
	case len(parts) == 3 && parts[0] == "apis":
		return d.byVersion[schema.GroupVersion{Group: parts[1], Version: parts[2]}]
	}
	return nil
}

// ServeHTTP answers /api, /apis and what is below them short of a resource.
func (d *Discovery) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	docs := d.docs.Load()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	// The lists of groups answer any method.
	version := docs.version(parts)
	if r.Method != http.MethodGet && (len(parts) == 1 && parts[0] == "api" || version != nil) {
		handlers.WriteMethodNotAllowed(w, r)
		return
	}
	switch {
	case len(parts) == 1 && parts[0] == "api":
		if aggregatedWanted(r) != "" {
			d.serveAggregated(w, r, docs, true)
			return
		}
		serveCore(w, r, "APIVersions", &metav1.APIVersions{Versions: []string{"v1"}, ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{
			{ClientCIDR: "0.0.0.0/0", ServerAddress: r.Host}}})
	case len(parts) == 1 && parts[0] == "apis":
		if aggregatedWanted(r) != "" {
			d.serveAggregated(w, r, docs, false)
			return
		}
		serve(w, r, "APIGroupList", docs.groups)
	case version != nil && parts[0] == "api":
		serveCore(w, r, "APIResourceList", version)
	case len(parts) == 2 && parts[0] == "apis" && docs.byGroup[parts[1]] != nil:
		serve(w, r, "APIGroup", docs.byGroup[parts[1]])
	case version != nil:
		serve(w, r, "APIResourceList", version)
	default:
		notFound(w, r)
	}
}
