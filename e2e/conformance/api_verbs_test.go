package conformance

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// verbCase is a resource without a namespace that must have every verb.
type verbCase struct {
	group, version, resource, kind string
	// body is all beside kind and metadata.
	body string
	// spec is a merge patch of what a user may change, at is where, want what
	// is there then.
	spec string
	at   []string
	want any
	// status is a merge patch of the status; conditions must be there then.
	status string
	// subresources beside status that discovery names.
	subresources []string
	generation   bool
}

const conditions = `{"status":{"conditions":[{"type":"Tested","status":"True","reason":"Test","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`

func TestAPIVerbs(t *testing.T) {
	admission := func(resource, kind, body, spec string, at []string, want any) verbCase {
		return verbCase{group: "admissionregistration.k8s.io", version: "v1", resource: resource, kind: kind, body: body, spec: spec, at: at, want: want, generation: true}
	}
	cases := []verbCase{
		// Conformance: [sig-api-machinery] API priority and fairness should support FlowSchema API operations
		{
			group: "flowcontrol.apiserver.k8s.io", version: "v1", resource: "flowschemas", kind: "FlowSchema", generation: true,
			body: `{"spec":{"matchingPrecedence":10000,"priorityLevelConfiguration":{"name":"global-default"},"distinguisherMethod":{"type":"ByUser"},
				"rules":[{"subjects":[{"kind":"User","user":{"name":"example-e2e-non-existent"}}],"nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]}]}}`,
			spec: `{"spec":{"matchingPrecedence":9999}}`, at: []string{"spec", "matchingPrecedence"}, want: int64(9999), status: conditions,
		},
		// Conformance: [sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations
		{
			group: "flowcontrol.apiserver.k8s.io", version: "v1", resource: "prioritylevelconfigurations", kind: "PriorityLevelConfiguration", generation: true,
			body: `{"spec":{"type":"Limited","limited":{"nominalConcurrencyShares":2,"limitResponse":{"type":"Reject"}}}}`,
			spec: `{"spec":{"limited":{"nominalConcurrencyShares":4}}}`, at: []string{"spec", "limited", "nominalConcurrencyShares"}, want: int64(4), status: conditions,
		},
		// Conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations
		{
			group: "admissionregistration.k8s.io", version: "v1", resource: "validatingadmissionpolicies", kind: "ValidatingAdmissionPolicy", generation: true,
			body: `{"spec":{"failurePolicy":"Ignore","matchConstraints":{"resourceRules":[{"apiGroups":["apps"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["deployments"]}]},
				"validations":[{"expression":"object.spec.replicas <= 100"}]}}`,
			spec: `{"spec":{"failurePolicy":"Fail"}}`, at: []string{"spec", "failurePolicy"}, want: "Fail", status: conditions,
		},
		// Conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations
		admission("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding",
			`{"spec":{"policyName":"nothing.example.com","validationActions":["Deny"]}}`,
			`{"spec":{"validationActions":["Warn"]}}`, []string{"spec", "policyName"}, "nothing.example.com"),
		// Conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations
		admission("mutatingadmissionpolicies", "MutatingAdmissionPolicy",
			`{"spec":{"failurePolicy":"Ignore","reinvocationPolicy":"Never","matchConstraints":{"resourceRules":[{"apiGroups":["apps"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["nothings"]}]},
				"mutations":[{"patchType":"ApplyConfiguration","applyConfiguration":{"expression":"Object{metadata: Object.metadata{labels: {\"a\": \"b\"}}}"}}]}}`,
			`{"spec":{"failurePolicy":"Fail"}}`, []string{"spec", "failurePolicy"}, "Fail"),
		// Conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations
		admission("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding",
			`{"spec":{"policyName":"nothing.example.com"}}`,
			`{"spec":{"policyName":"other.example.com"}}`, []string{"spec", "policyName"}, "other.example.com"),
		// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents
		admission("mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
			`{"webhooks":[]}`, `{"webhooks":[]}`, []string{"metadata", "name"}, nil),
		admission("validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
			`{"webhooks":[]}`, `{"webhooks":[]}`, []string{"metadata", "name"}, nil),
		// Conformance: [sig-api-machinery] StorageVersionMigration CRUD Tests storagemigration.k8s.io/v1 StorageVersionMigration
		{
			group: "storagemigration.k8s.io", version: "v1", resource: "storageversionmigrations", kind: "StorageVersionMigration",
			body: `{"spec":{"resource":{"group":"nothing.example.com","resource":"nothings"}}}`,
			spec: `{"metadata":{"annotations":{"a":"b"}}}`, at: []string{"metadata", "annotations", "a"}, want: "b",
			status: `{"status":{"conditions":[{"type":"Running","status":"True","reason":"Test","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`,
		},
		// Conformance: [sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations
		{
			group: "certificates.k8s.io", version: "v1", resource: "certificatesigningrequests", kind: "CertificateSigningRequest", subresources: []string{"approval"},
			body: `{"spec":{"signerName":"example.com/e2e","expirationSeconds":3600,"usages":["digital signature","key encipherment","server auth"],"request":"` + certificateRequest() + `"}}`,
			spec: `{"metadata":{"annotations":{"a":"b"}}}`, at: []string{"metadata", "annotations", "a"}, want: "b", status: conditions,
		},
		// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] CRUD Tests certificates.k8s.io/v1 ClusterTrustBundles [MinimumKubeletVersion:1.37]
		{
			group: "certificates.k8s.io", version: "v1", resource: "clustertrustbundles", kind: "ClusterTrustBundle",
			body: `{"spec":{"trustBundle":"` + trustBundleJSON() + `"}}`,
			spec: `{"metadata":{"annotations":{"a":"b"}}}`, at: []string{"metadata", "annotations", "a"}, want: "b",
		},
	}
	for _, tc := range cases {
		t.Run(tc.resource, func(t *testing.T) { tc.check(parallel(t)) })
	}
}

func (tc *verbCase) check(s *space) {
	tc.discovered(s)
	c := s.dynamic.Resource(schema.GroupVersionResource{Group: tc.group, Version: tc.version, Resource: tc.resource})
	label := "test=" + s.name
	s.later("delete what is left", func(ctx context.Context) error {
		return c.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: label})
	})
	make := func(name string) metav1.Object {
		s.t.Helper()
		obj := parsed(s, tc.body)
		obj.SetAPIVersion(tc.group + "/" + tc.version)
		obj.SetKind(tc.kind)
		obj.SetName(s.name + "-" + name)
		obj.SetLabels(map[string]string{"test": s.name})
		out, err := c.Create(s.ctx, obj, metav1.CreateOptions{})
		s.must(err)
		return out
	}
	first := make("a")
	name := first.GetName()
	if tc.generation {
		equal(s, "the generation", 1, first.GetGeneration())
	}
	got, err := c.Get(s.ctx, name, metav1.GetOptions{})
	s.must(err)
	equal(s, "the uid", first.GetUID(), got.GetUID())
	list, err := c.List(s.ctx, metav1.ListOptions{LabelSelector: label})
	s.must(err)
	equal(s, "the number listed", 1, len(list.Items))

	w := s.watching(c.Watch(s.ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion(), LabelSelector: label}))
	second := make("b")
	w.until(watch.Added, "the second", isNamed(second.GetName()))

	patched, err := c.Patch(s.ctx, name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"patched":"true"}}}`), metav1.PatchOptions{})
	s.must(err)
	equal(s, "the annotation", "true", patched.GetAnnotations()["patched"])
	isPatched := func(o metav1.Object) bool { return o.GetAnnotations()["patched"] == "true" }
	w.until(watch.Modified, "the patch", isPatched)

	s.eventually(10*time.Second, "an update", func() error { // controllers write the status of some
		fresh, err := c.Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		fresh.SetAnnotations(map[string]string{"patched": "true", "updated": "true"})
		fresh, err = c.Update(s.ctx, fresh, metav1.UpdateOptions{})
		if err == nil {
			equal(s, "the annotation", "true", fresh.GetAnnotations()["updated"])
		}
		return err
	})
	w.until(watch.Modified, "the update", func(o metav1.Object) bool { return o.GetAnnotations()["updated"] == "true" })

	changed, err := c.Patch(s.ctx, name, types.MergePatchType, []byte(tc.spec), metav1.PatchOptions{})
	s.must(err)
	if tc.want != nil {
		equal(s, "the changed field", tc.want, at(changed, tc.at...))
	}
	patched.SetAnnotations(map[string]string{"stale": "true"})
	if _, err := c.Update(s.ctx, patched, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		s.t.Errorf("an update of an old version: %v, want a conflict", err)
	}
	if tc.status != "" {
		tc.checkStatus(s, name)
	}

	s.must(c.Delete(s.ctx, name, metav1.DeleteOptions{}))
	w.until(watch.Deleted, "the first", isNamed(name))
	if _, err := c.Get(s.ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		s.t.Errorf("get after delete: %v, want not found", err)
	}
	make("c")
	s.must(c.DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: label}))
	w.until(watch.Deleted, "the second", isNamed(second.GetName()))
	s.eventually(30*time.Second, "nothing is left", func() error {
		list, err := c.List(s.ctx, metav1.ListOptions{LabelSelector: label})
		if err == nil && len(list.Items) > 0 {
			err = errLeft(len(list.Items))
		}
		return err
	})
}

// checkStatus reads, patches and updates the status.
func (tc *verbCase) checkStatus(s *space, name string) {
	c := s.dynamic.Resource(schema.GroupVersionResource{Group: tc.group, Version: tc.version, Resource: tc.resource})
	_, err := c.Get(s.ctx, name, metav1.GetOptions{}, "status")
	s.must(err)
	// Metadata may be changed with the status.
	both := `{"metadata":{"annotations":{"patchedstatus":"true"}},` + strings.TrimPrefix(tc.status, "{")
	patched, err := c.Patch(s.ctx, name, types.MergePatchType, []byte(both), metav1.PatchOptions{}, "status")
	s.must(err)
	equal(s, "the annotation", "true", patched.GetAnnotations()["patchedstatus"])
	if list, ok := at(patched, "status", "conditions").([]any); !ok || len(list) == 0 {
		s.t.Errorf("the patched conditions are %v", at(patched, "status", "conditions"))
	}
	s.eventually(30*time.Second, "the status is updated", func() error {
		fresh, err := c.Get(s.ctx, name, metav1.GetOptions{}, "status")
		if err != nil {
			return err
		}
		list := at(parsed(s, tc.status), "status", "conditions").([]any)
		list[0].(map[string]any)["message"] = "updated"
		fresh.Object["status"] = map[string]any{"conditions": list}
		updated, err := c.UpdateStatus(s.ctx, fresh, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		got := at(updated, "status", "conditions").([]any)[0].(map[string]any)["message"]
		equal(s, "the updated condition's message", any("updated"), got)
		return nil
	})
}

// discovered checks the three documents.
func (tc *verbCase) discovered(s *space) {
	s.t.Helper()
	var groups metav1.APIGroupList
	s.rawJSON("/apis", &groups)
	group := func(list []metav1.APIGroup) bool {
		return slices.ContainsFunc(list, func(g metav1.APIGroup) bool {
			return g.Name == tc.group && slices.ContainsFunc(g.Versions, func(v metav1.GroupVersionForDiscovery) bool {
				return v.Version == tc.version && v.GroupVersion == tc.group+"/"+tc.version
			})
		})
	}
	if !group(groups.Groups) {
		s.t.Errorf("/apis does not name %s/%s", tc.group, tc.version)
	}
	var one metav1.APIGroup
	s.rawJSON("/apis/"+tc.group, &one)
	if !group([]metav1.APIGroup{one}) {
		s.t.Errorf("/apis/%s does not name the version %s", tc.group, tc.version)
	}
	var resources metav1.APIResourceList
	s.rawJSON("/apis/"+tc.group+"/"+tc.version, &resources)
	want := map[string][]string{tc.resource: {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}}
	if tc.status != "" {
		want[tc.resource+"/status"] = []string{"get", "patch", "update"}
	}
	for _, sub := range tc.subresources {
		want[tc.resource+"/"+sub] = []string{"get", "patch", "update"}
	}
	for name, verbs := range want {
		i := slices.IndexFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Name == name })
		if i < 0 {
			s.t.Errorf("discovery does not name %s", name)
			continue
		}
		got := slices.Sorted(slices.Values(resources.APIResources[i].Verbs))
		if !slices.Equal(got, verbs) || resources.APIResources[i].Kind != tc.kind {
			s.t.Errorf("discovery says %s %v of %s, want %s %v", resources.APIResources[i].Kind, got, name, tc.kind, verbs)
		}
	}
}

// rawJSON reads a path of the server.
func (s *space) rawJSON(path string, into any) {
	s.t.Helper()
	b, err := s.client.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(s.ctx)
	s.must(err)
	s.must(json.Unmarshal(b, into))
}
