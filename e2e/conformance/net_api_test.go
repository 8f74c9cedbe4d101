package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"
)

// resourceRow is a resource of which a row wants every verb.
type resourceRow struct {
	gvr     schema.GroupVersionResource
	kind    string
	cluster bool
	// spec is what follows the metadata, as YAML; the three objects are made from
	// name and spec by their index.
	name func(base string, i int) string
	spec string
	// status is written to /status, where the resource has one.
	status string
}

// condition is a status that any list of conditions takes.
const condition = `{conditions: [{type: Test, status: "True", reason: Testing, message: set by a test, lastTransitionTime: "2026-01-02T03:04:05Z"}]}`

// TestNetAPI goes through every verb of resources.
func TestNetAPI(t *testing.T) {
	networking := schema.GroupVersion{Group: "networking.k8s.io", Version: "v1"}
	numbered := func(base string, i int) string { return fmt.Sprintf("%s-%d", base, i) }
	for _, row := range []resourceRow{
		// Conformance: [sig-network] EndpointSlice should support creating EndpointSlice API operations
		{
			gvr: schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}, kind: "EndpointSlice", name: numbered,
			spec: "addressType: IPv4\nendpoints: [{addresses: [1.2.3.4, 5.6.7.8]}]",
		},
		// Conformance: [sig-network] Ingress API should support creating Ingress API operations
		{
			gvr: networking.WithResource("ingresses"), kind: "Ingress", name: numbered,
			spec:   "spec: {defaultBackend: {service: {name: default-backend, port: {name: http}}}, rules: [{host: foo.bar.com, http: {paths: [{path: /, pathType: ImplementationSpecific, backend: {service: {name: test-backend, port: {number: 8080}}}}]}}]}",
			status: "{loadBalancer: {ingress: [{ip: 169.1.1.1}]}}",
		},
		// Conformance: [sig-network] IngressClass API should support creating IngressClass API operations
		{gvr: networking.WithResource("ingressclasses"), kind: "IngressClass", cluster: true, name: numbered, spec: "spec: {controller: example.com/controller}"},
		{gvr: networking.WithResource("networkpolicies"), kind: "NetworkPolicy", name: numbered, spec: "spec: {podSelector: {matchLabels: {app: none}}, policyTypes: [Ingress]}"},
		// Conformance: [sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations
		{
			gvr: networking.WithResource("ipaddresses"), kind: "IPAddress", cluster: true,
			name: func(_ string, i int) string { return fmt.Sprintf("192.168.7.%d", i+1) },
			spec: "spec: {parentRef: {group: networking.k8s.io, resource: services, name: test, namespace: test}}",
		},
		// Conformance: [sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations
		{
			gvr: networking.WithResource("servicecidrs"), kind: "ServiceCIDR", cluster: true, name: numbered,
			spec: "spec: {cidrs: [10.196.196.0/24]}", status: condition,
		},
		// Conformance: [sig-apps] CronJob should support CronJob API operations
		{
			gvr: schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "cronjobs"}, kind: "CronJob", name: numbered,
			spec:   `spec: {schedule: "0 0 31 2 *", jobTemplate: {spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: c, image: probe}]}}}}}`,
			status: `{lastScheduleTime: "2026-01-02T03:04:05Z"}`,
		},
	} {
		t.Run(row.kind, func(t *testing.T) { row.run(parallel(t)) })
	}
}

func (row resourceRow) run(s *space) {
	s.t.Helper()
	row.discovered(s)
	var client dynamic.ResourceInterface = s.dynamic.Resource(row.gvr)
	everywhere := client
	if !row.cluster {
		client = s.dynamic.Resource(row.gvr).Namespace(s.name)
	}
	label := metav1.ListOptions{LabelSelector: "special-label=" + s.name}
	s.t.Cleanup(func() {
		if err := client.DeleteCollection(s.ctx, metav1.DeleteOptions{}, label); err != nil {
			s.t.Error(err)
		}
	})
	list, err := client.List(s.ctx, label)
	s.must(err)
	label.ResourceVersion = list.GetResourceVersion()
	w, err := client.Watch(s.ctx, label)
	s.must(err)
	defer w.Stop()
	label.ResourceVersion = ""
	var names []string
	for i := range 3 {
		var u unstructured.Unstructured
		s.must(yaml.Unmarshal([]byte(row.spec), &u.Object))
		u.SetGroupVersionKind(row.gvr.GroupVersion().WithKind(row.kind))
		u.SetName(row.name(s.name, i))
		u.SetLabels(map[string]string{"special-label": s.name})
		_, err := client.Create(s.ctx, &u, metav1.CreateOptions{})
		s.must(err)
		names = append(names, u.GetName())
	}
	first := names[0]
	if _, err := client.Get(s.ctx, first, metav1.GetOptions{}); err != nil {
		s.t.Error(err)
	}
	for what, c := range map[string]dynamic.ResourceInterface{"namespace": client, "cluster": everywhere} {
		if list, err := c.List(s.ctx, label); err != nil || len(list.Items) != 3 || list.GetKind() != row.kind+"List" {
			s.t.Errorf("the list of the %s: %v and %v", what, list, err)
		}
	}
	for _, annotation := range []string{"merged", "strategic", "json"} {
		patch, kind := []byte(`{"metadata":{"annotations":{"`+annotation+`":"true"}}}`), types.MergePatchType
		switch annotation {
		case "strategic":
			kind = types.StrategicMergePatchType
		case "json":
			kind, patch = types.JSONPatchType, []byte(`[{"op":"add","path":"/metadata/annotations/json","value":"true"}]`)
		}
		got, err := client.Patch(s.ctx, first, kind, patch, metav1.PatchOptions{})
		if err != nil || got.GetAnnotations()[annotation] != "true" {
			s.t.Errorf("%s patch: %v and %v", annotation, got, err)
		}
	}
	change := func(set func(*unstructured.Unstructured), write func(*unstructured.Unstructured) (*unstructured.Unstructured, error)) *unstructured.Unstructured {
		var out *unstructured.Unstructured
		s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			u, err := client.Get(s.ctx, first, metav1.GetOptions{})
			if err == nil {
				set(u)
				out, err = write(u)
			}
			return err
		}))
		return out
	}
	change(func(u *unstructured.Unstructured) {
		a := u.GetAnnotations()
		a["updated"] = "true"
		u.SetAnnotations(a)
	}, func(u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		return client.Update(s.ctx, u, metav1.UpdateOptions{})
	})
	s.seen(w, "the update", func(kind watch.EventType, obj runtime.Object) bool {
		u := obj.(*unstructured.Unstructured)
		return kind == watch.Modified && u.GetName() == first && u.GetAnnotations()["updated"] == "true"
	})
	if row.status != "" {
		var status map[string]any
		s.must(yaml.Unmarshal([]byte(row.status), &status))
		has := func(what string, u *unstructured.Unstructured) {
			for field := range status {
				if v, ok, _ := unstructured.NestedFieldNoCopy(u.Object, "status", field); !ok || v == nil {
					s.t.Errorf("the %s status is %v, want it with %s", what, u.Object["status"], field)
				}
			}
		}
		got, err := client.Patch(s.ctx, first, types.MergePatchType, s.json(map[string]any{"metadata": map[string]any{"annotations": map[string]any{"patchedstatus": "true"}}, "status": status}), metav1.PatchOptions{}, "status")
		s.must(err)
		has("patched", got)
		if got.GetAnnotations()["patchedstatus"] != "true" {
			s.t.Errorf("a patch of /status left out the annotation: %v", got.GetAnnotations())
		}
		has("updated", change(func(u *unstructured.Unstructured) { u.Object["status"] = status },
			func(u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
				return client.UpdateStatus(s.ctx, u, metav1.UpdateOptions{})
			}))
		got, err = client.Get(s.ctx, first, metav1.GetOptions{}, "status")
		s.must(err)
		has("read", got)
	}
	s.must(client.Delete(s.ctx, first, metav1.DeleteOptions{}))
	s.gone(first, func() error {
		_, err := client.Get(s.ctx, first, metav1.GetOptions{})
		return err
	})
	s.seen(w, "the end of "+first, func(kind watch.EventType, obj runtime.Object) bool {
		return kind == watch.Deleted && obj.(*unstructured.Unstructured).GetName() == first
	})
	if err := client.Delete(s.ctx, first, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
		s.t.Errorf("deleting it again: %v", err)
	}
	s.must(client.DeleteCollection(s.ctx, metav1.DeleteOptions{}, label))
	s.eventually(30*time.Second, "an empty list", func() error {
		list, err := client.List(s.ctx, label)
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d are there", len(list.Items))
		}
		return err
	})
}

// discovered checks that the group, the version and the resource are published.
func (row resourceRow) discovered(s *space) {
	s.t.Helper()
	groups, err := s.client.Discovery().ServerGroups()
	s.must(err)
	if !slices.ContainsFunc(groups.Groups, func(g metav1.APIGroup) bool {
		return g.Name == row.gvr.Group && slices.ContainsFunc(g.Versions, func(v metav1.GroupVersionForDiscovery) bool { return v.Version == row.gvr.Version })
	}) {
		s.t.Errorf("/apis lacks %s", row.gvr.GroupVersion())
	}
	var group metav1.APIGroup
	b, err := s.client.Discovery().RESTClient().Get().AbsPath("/apis/"+row.gvr.Group).SetHeader("Accept", "application/json").DoRaw(s.ctx)
	s.must(err)
	s.must(yaml.Unmarshal(b, &group))
	if group.Kind != "APIGroup" || !slices.ContainsFunc(group.Versions, func(v metav1.GroupVersionForDiscovery) bool {
		return v.GroupVersion == row.gvr.GroupVersion().String()
	}) {
		s.t.Errorf("/apis/%s is %s", row.gvr.Group, b)
	}
	resources, err := s.client.Discovery().ServerResourcesForGroupVersion(row.gvr.GroupVersion().String())
	s.must(err)
	want := map[string][]string{row.gvr.Resource: {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}}
	if row.status != "" {
		want[row.gvr.Resource+"/status"] = []string{"get", "patch", "update"}
	}
	for _, r := range resources.APIResources {
		verbs, ok := want[r.Name]
		if !ok {
			continue
		}
		delete(want, r.Name)
		got := slices.Sorted(slices.Values(r.Verbs))
		if !slices.Equal(got, verbs) || r.Namespaced == row.cluster || r.Kind != row.kind {
			s.t.Errorf("%s is published as %+v", r.Name, r)
		}
	}
	for name := range want {
		s.t.Errorf("%s lacks %s", row.gvr.GroupVersion(), name)
	}
}
