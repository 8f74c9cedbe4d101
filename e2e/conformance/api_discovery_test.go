package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// builtIn is a resource that every cluster serves.
var builtIn = map[schema.GroupVersion][]string{
	{Version: "v1"}: {"namespaces", "pods", "configmaps", "services"},
	{Group: "admissionregistration.k8s.io", Version: "v1"}: {"validatingwebhookconfigurations", "mutatingwebhookconfigurations"},
	{Group: "apiextensions.k8s.io", Version: "v1"}:         {"customresourcedefinitions"},
	{Group: "apiregistration.k8s.io", Version: "v1"}:       {"apiservices"},
	{Group: "apps", Version: "v1"}:                         {"deployments", "daemonsets", "statefulsets", "replicasets"},
	{Group: "authentication.k8s.io", Version: "v1"}:        {"tokenreviews"},
	{Group: "authorization.k8s.io", Version: "v1"}:         {"selfsubjectaccessreviews", "subjectaccessreviews"},
	{Group: "autoscaling", Version: "v2"}:                  {"horizontalpodautoscalers"},
	{Group: "batch", Version: "v1"}:                        {"jobs", "cronjobs"},
	{Group: "certificates.k8s.io", Version: "v1"}:          {"certificatesigningrequests"},
	{Group: "coordination.k8s.io", Version: "v1"}:          {"leases"},
	{Group: "discovery.k8s.io", Version: "v1"}:             {"endpointslices"},
	{Group: "events.k8s.io", Version: "v1"}:                {"events"},
	{Group: "networking.k8s.io", Version: "v1"}:            {"ingresses", "networkpolicies"},
	{Group: "node.k8s.io", Version: "v1"}:                  {"runtimeclasses"},
	{Group: "policy", Version: "v1"}:                       {"poddisruptionbudgets"},
	{Group: "rbac.authorization.k8s.io", Version: "v1"}:    {"roles", "clusterroles"},
	{Group: "scheduling.k8s.io", Version: "v1"}:            {"priorityclasses"},
	{Group: "storage.k8s.io", Version: "v1"}:               {"storageclasses", "csinodes"},
}

// aggregated reads a document of a version of the aggregated form, by hand.
func (s *space) aggregated(path, version string) (map[schema.GroupVersion][]string, error) {
	accept := "application/json;g=apidiscovery.k8s.io;v=" + version + ";as=APIGroupDiscoveryList,application/json"
	var contentType string
	res := s.client.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", accept).Do(s.ctx)
	res.ContentType(&contentType)
	b, err := res.Raw()
	if err != nil {
		return nil, err
	}
	if !strings.Contains(contentType, "as=APIGroupDiscoveryList") || !strings.Contains(contentType, "v="+version) {
		return nil, fmt.Errorf("%s answers with %s", path, contentType)
	}
	var list apidiscoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	if list.Kind != "APIGroupDiscoveryList" || list.APIVersion != "apidiscovery.k8s.io/"+version {
		return nil, fmt.Errorf("%s answers with a %s of %s", path, list.Kind, list.APIVersion)
	}
	out := map[schema.GroupVersion][]string{}
	for _, g := range list.Items {
		for _, v := range g.Versions {
			if v.Freshness != apidiscoveryv2.DiscoveryFreshnessCurrent {
				return nil, fmt.Errorf("%s/%s is %q", g.Name, v.Version, v.Freshness)
			}
			gv := schema.GroupVersion{Group: g.Name, Version: v.Version}
			for _, r := range v.Resources {
				if r.ResponseKind == nil || r.ResponseKind.Kind == "" || r.Scope == "" || len(r.Verbs) == 0 {
					return nil, fmt.Errorf("%v %s is incomplete: %+v", gv, r.Resource, r)
				}
				out[gv] = append(out[gv], r.Resource)
			}
		}
	}
	return out, nil
}

// Conformance: [sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers
// Conformance: [sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface
func TestAPIDiscoveryAggregated(t *testing.T) {
	s := parallel(t)
	for _, version := range []string{"v2", "v2beta1"} {
		all, err := s.aggregated("/apis", version)
		s.must(err)
		core, err := s.aggregated("/api", version)
		s.must(err)
		for gv, want := range builtIn {
			got := all[gv]
			if gv.Group == "" {
				got = core[gv]
			}
			for _, r := range want {
				if !slices.Contains(got, r) {
					t.Errorf("%s says %v of %v, want %s among them", version, got, gv, r)
				}
			}
		}
	}
	groups, resources, failed, err := s.aggregatedClient()
	s.must(err)
	if len(failed) > 0 || groups == nil {
		t.Errorf("the client met %v", failed)
	}
	for gv, want := range builtIn {
		list := resources[gv]
		if list == nil {
			t.Errorf("the client knows no %v", gv)
			continue
		}
		for _, r := range want {
			if !slices.ContainsFunc(list.APIResources, func(a metav1.APIResource) bool { return a.Name == r }) {
				t.Errorf("the client knows no %s in %v", r, gv)
			}
		}
	}
}

func (s *space) aggregatedClient() (*metav1.APIGroupList, map[schema.GroupVersion]*metav1.APIResourceList, map[schema.GroupVersion]error, error) {
	c, err := discovery.NewDiscoveryClientForConfig(s.config)
	if err != nil {
		return nil, nil, nil, err
	}
	return c.GroupsAndMaybeResources()
}

// Conformance: [sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs
// Conformance: [sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs
func TestAPIDiscoveryAggregatedCustom(t *testing.T) {
	s := parallel(t)
	d := s.define(s.definition("found", "Boat", "v1"))
	gv := schema.GroupVersion{Group: d.Spec.Group, Version: "v1"}
	s.eventually(30*time.Second, "the raw document has it", func() error {
		all, err := s.aggregated("/apis", "v2")
		if err == nil && !slices.Contains(all[gv], "boats") {
			err = fmt.Errorf("%v", all[gv])
		}
		return err
	})
	_, resources, _, err := s.aggregatedClient()
	s.must(err)
	if list := resources[gv]; list == nil || len(list.APIResources) != 1 || list.APIResources[0].Kind != "Boat" {
		t.Errorf("the client knows %+v", list)
	}
}

// Conformance: [sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup
// Conformance: [sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup
func TestAPIDiscoveryGroups(t *testing.T) {
	s := parallel(t)
	var list metav1.APIGroupList
	s.rawJSON("/apis", &list)
	if len(list.Groups) < 15 {
		t.Errorf("only %d groups", len(list.Groups))
	}
	for _, g := range list.Groups {
		if strings.HasSuffix(g.Name, ".example.com") {
			continue // another test's, which may be gone
		}
		var one metav1.APIGroup
		s.rawJSON("/apis/"+g.Name, &one)
		equal(s, "the preferred version of "+g.Name, g.PreferredVersion, one.PreferredVersion)
		if !slices.Contains(g.Versions, g.PreferredVersion) {
			t.Errorf("the preferred version %v of %s is none of %v", g.PreferredVersion, g.Name, g.Versions)
		}
		for _, v := range g.Versions {
			var resources metav1.APIResourceList
			s.rawJSON("/apis/"+v.GroupVersion, &resources)
			equal(s, "the group version", v.GroupVersion, resources.GroupVersion)
			if len(resources.APIResources) == 0 || resources.APIResources[0].Name == "" || resources.APIResources[0].Kind == "" {
				t.Errorf("%s has no resource", v.GroupVersion)
			}
		}
	}
}

// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents
func TestAPIDiscoveryDefinitions(t *testing.T) {
	tc := verbCase{group: "apiextensions.k8s.io", version: "v1", resource: "customresourcedefinitions", kind: "CustomResourceDefinition", status: "any"}
	tc.discovered(parallel(t))
}

// Conformance: [sig-api-machinery] server version should find the server version
func TestAPIServerVersion(t *testing.T) {
	s := parallel(t)
	v, err := s.client.Discovery().ServerVersion()
	s.must(err)
	number := regexp.MustCompile(`^[0-9]+$`)
	if !number.MatchString(v.Major) || !number.MatchString(v.Minor) {
		t.Errorf("the version is %q.%q, want numbers", v.Major, v.Minor)
	}
	if v.GitVersion == "" || v.GoVersion == "" || v.Compiler == "" || v.Platform == "" {
		t.Errorf("the version is incomplete: %+v", v)
	}
}

// Conformance: [sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata
func TestAPITableRefused(t *testing.T) {
	s := parallel(t)
	for _, version := range []string{"v1", "v1beta1"} {
		body := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: s.name},
		}}
		err := s.client.AuthorizationV1().RESTClient().Post().Resource("selfsubjectaccessreviews").
			SetHeader("Accept", "application/json;as=Table;v="+version+";g=meta.k8s.io").Body(body).Do(s.ctx).Error()
		var status apierrors.APIStatus
		if status, _ = err.(apierrors.APIStatus); status == nil || status.Status().Code != http.StatusNotAcceptable {
			t.Errorf("a table of %s: %v, want 406", version, err)
		}
	}
}
