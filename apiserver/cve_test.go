package apiserver_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	arv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"skiff/apiserver/apiservertest"
)

// Custom resources of one group whose names begin alike are kept apart
// (CVE-2022-3162), and those of the whole cluster are not to be had by way of a
// namespace, where others may have rights (CVE-2019-11247).
//
// Covers: api.custom-schema
func TestCustomResourcesAreKeptApart(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	for _, d := range []struct{ plural, kind, scope string }{{"foo", "Foo", "Cluster"}, {"foobar", "Foobar", "Cluster"}, {"fo", "Fo", "Namespaced"}} {
		b := `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"` + d.plural + `.example.com"},"spec":{"group":"example.com","scope":"` + d.scope +
			`","names":{"plural":"` + d.plural + `","kind":"` + d.kind + `"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`
		if a := s.Call(t, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", b, "Content-Type", "application/json"); a.Code != 201 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
	}
	const at = "/apis/example.com/v1/"
	for path, kind := range map[string]string{at + "foo": "Foo", at + "foobar": "Foobar", at + "namespaces/default/fo": "Fo"} {
		within(t, path, func() bool {
			a := s.Call(t, "POST", path, `{"apiVersion":"example.com/v1","kind":"`+kind+`","metadata":{"name":"of-`+strings.ToLower(kind)+`"}}`, "Content-Type", "application/json")
			return a.Code == 201
		})
	}
	for path, want := range map[string]string{at + "foo": "of-foo", at + "foobar": "of-foobar", at + "fo": "of-fo"} {
		a := s.Call(t, "GET", path, "")
		var list unstructured.UnstructuredList
		if err := json.Unmarshal(a.Body, &list); err != nil {
			t.Fatalf("%s: %v in %s", path, err, a.Body)
		}
		var got []string
		for _, i := range list.Items {
			got = append(got, i.GetName())
		}
		if d := cmp.Diff([]string{want}, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
	}
	for _, path := range []string{
		"namespaces/default/foo", "namespaces/default/foo/of-foo", "namespaces/default/foobar/of-foobar", "fo/of-fo", "fo/o", "foo/bar%2fof-foobar", "foo/..%2ffoobar%2fof-foobar",
		"namespaces/..%2f/foo/of-foo", "namespaces/%2e%2e/foo",
	} {
		if a := s.Call(t, "GET", at+path, ""); a.Code != 404 || bytes.Contains(a.Body, []byte(`"of-`)) && bytes.Contains(a.Body, []byte(`"items"`)) {
			t.Errorf("%s: %d %s", path, a.Code, a.Body)
		}
	}
}

// Webhooks see of a node that is changed what is stored and what would be, by
// whatever way it is changed: the old object is never made of the request
// (CVE-2021-25735).
//
// Covers: api.webhooks
func TestWebhooksSeeTheStoredNode(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	var mu sync.Mutex
	var seen *admissionv1.AdmissionRequest
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var rev admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&rev); err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		seen = rev.Request
		mu.Unlock()
		rev.Response = &admissionv1.AdmissionResponse{UID: rev.Request.UID, Allowed: true}
		if bytes.Contains(rev.Request.OldObject.Raw, []byte(`"frozen":"yes"`)) {
			rev.Response.Allowed, rev.Response.Result = false, &metav1.Status{Message: "frozen"}
		}
		_ = json.NewEncoder(w).Encode(rev) // the server has gone when this fails
	}))
	defer hook.Close()
	nodes := s.Client.CoreV1().Nodes()
	if _, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"frozen": "yes"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	conf := &arv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Webhooks: []arv1.ValidatingWebhook{{
		Name: "v.example.com", SideEffects: ptr(arv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
		Rules:        []arv1.RuleWithOperations{{Operations: []arv1.OperationType{arv1.Update}, Rule: arv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"nodes", "nodes/status"}}}},
		ClientConfig: arv1.WebhookClientConfig{URL: ptr(hook.URL), CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})},
	}}}
	if _, err := s.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(ctx, conf, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The request says that it was never frozen.
	thaw := func(n *corev1.Node) { n.Labels = map[string]string{"frozen": "no"} }
	change := map[string]func() error{
		"update": func() error {
			n, err := nodes.Get(ctx, "n", metav1.GetOptions{})
			if err != nil {
				return err
			}
			thaw(n)
			_, err = nodes.Update(ctx, n, metav1.UpdateOptions{})
			return err
		},
		"status": func() error {
			n, err := nodes.Get(ctx, "n", metav1.GetOptions{})
			if err != nil {
				return err
			}
			thaw(n)
			n.Status.Phase = corev1.NodeRunning
			_, err = nodes.UpdateStatus(ctx, n, metav1.UpdateOptions{})
			return err
		},
		"patch": func() error {
			_, err := nodes.Patch(ctx, "n", types.MergePatchType, []byte(`{"metadata":{"labels":{"frozen":"no"}}}`), metav1.PatchOptions{})
			return err
		},
		"apply": func() error {
			_, err := nodes.Patch(ctx, "n", types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","labels":{"frozen":"no"}}}`), metav1.PatchOptions{FieldManager: "m", Force: ptr(true)})
			return err
		},
	}
	within(t, "the webhook is called", func() bool { return change["update"]() != nil })
	for name, do := range change {
		t.Run(name, func(t *testing.T) {
			if err := do(); err == nil || !strings.Contains(err.Error(), "frozen") {
				t.Errorf("got %v, want the webhook's refusal", err)
			}
			mu.Lock()
			defer mu.Unlock()
			var old, now corev1.Node
			if err := json.Unmarshal(seen.OldObject.Raw, &old); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(seen.Object.Raw, &now); err != nil {
				t.Fatal(err)
			}
			if old.Labels["frozen"] != "yes" || now.Labels["frozen"] != "no" && name != "status" {
				t.Errorf("it saw %v become %v", old.Labels, now.Labels)
			}
		})
	}
	n, err := nodes.Get(ctx, "n", metav1.GetOptions{})
	if err != nil || n.Labels["frozen"] != "yes" {
		t.Errorf("stored %v, %v", n.Labels, err)
	}
}

// Endpoints lead neither to this machine nor to the link's own services
// (CVE-2021-25737), and whoever edits a namespace may write neither them
// (CVE-2021-25740) nor the addresses of load balancers (CVE-2020-8554).
//
// Covers: api.validation, api.rbac
func TestEndpointsAreNoWayIn(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	namespace(t, s.Client, "ends")
	for _, address := range []string{"127.0.0.1", "127.1.1.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::", "ff02::1"} {
		family := "IPv4"
		if strings.Contains(address, ":") {
			family = "IPv6"
		}
		for path, body := range map[string]string{
			"/apis/discovery.k8s.io/v1/namespaces/ends/endpointslices": `{"metadata":{"name":"e"},"addressType":"` + family + `","endpoints":[{"addresses":["` + address + `"]}],"ports":[{"port":80}]}`,
			"/api/v1/namespaces/ends/endpoints":                        `{"metadata":{"name":"e"},"subsets":[{"addresses":[{"ip":"` + address + `"}],"ports":[{"port":80}]}]}`,
		} {
			if a := s.Call(t, "POST", path, body, "Content-Type", "application/json"); a.Code != 422 || !bytes.Contains(a.Body, []byte(address)) {
				t.Errorf("%s to %s: %d %s", path, address, a.Code, a.Body)
			}
		}
	}
	editor := s.As(t, "editor", "editors")
	if a := s.Call(t, "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/ends/rolebindings",
		`{"metadata":{"name":"e"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"system:aggregate-to-edit"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"Group","name":"editors"}]}`, "Content-Type", "application/json"); a.Code != 201 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	const ends = "/api/v1/namespaces/ends/"
	within(t, "the editor edits", func() bool {
		return s.CallAs(t, editor, "POST", ends+"services", `{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}`, "Content-Type", "application/json").Code == 201
	})
	for path, body := range map[string]string{
		ends + "endpoints": `{"metadata":{"name":"e"}}`,
		"/apis/discovery.k8s.io/v1/namespaces/ends/endpointslices": `{"metadata":{"name":"e"},"addressType":"IPv4","endpoints":[]}`,
	} {
		if a := s.CallAs(t, editor, "POST", path, body, "Content-Type", "application/json"); a.Code != 403 {
			t.Errorf("%s: %d %s", path, a.Code, a.Body)
		}
	}
	if a := s.CallAs(t, editor, "PATCH", ends+"services/s/status", `{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`, "Content-Type", "application/merge-patch+json"); a.Code != 403 {
		t.Errorf("the status of a service: %d %s", a.Code, a.Body)
	}
}
