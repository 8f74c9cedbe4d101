package apiserver_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// TestConversionWebhook stores in one version and reads in another that a webhook
// makes.
//
// Covers: api.custom-versions
func TestConversionWebhook(t *testing.T) {
	var reviews atomic.Int64
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reviews.Add(1)
		var review v1.ConversionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &v1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
		for _, o := range review.Request.Objects {
			u := &unstructured.Unstructured{}
			if err := u.UnmarshalJSON(o.Raw); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			if u.GetName() == "refused" {
				review.Response.Result = metav1.Status{Status: metav1.StatusFailure, Message: "not this one"}
			}
			u.SetAPIVersion(review.Request.DesiredAPIVersion)
			u.Object["from"] = "hook"
			b, _ := u.MarshalJSON() // it has just been decoded
			review.Response.ConvertedObjects = append(review.Response.ConvertedObjects, runtime.RawExtension{Raw: b})
		}
		_ = json.NewEncoder(w).Encode(review) // the server is gone when this fails
	}))
	defer hook.Close()
	e := startExtended(t)
	crd := definition(t, `
metadata: {name: hooked.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: hooked, kind: Hooked}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {from: {type: string}}}}}
  - {name: v2, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: {from: {type: string}}}}}
`)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})
	crd.Spec.Conversion = &v1.CustomResourceConversion{Strategy: v1.WebhookConverter, Webhook: &v1.WebhookConversion{
		ConversionReviewVersions: []string{"v1"}, ClientConfig: &v1.WebhookClientConfig{URL: &hook.URL, CABundle: ca},
	}}
	if _, err := e.crds.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.until(t, crd.Name, established)
	in := func(version string) dynamic.ResourceInterface {
		return e.dyn.Resource(schema.GroupVersionResource{Group: "example.com", Version: version, Resource: "hooked"})
	}
	for _, name := range []string{"a", "refused"} {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Hooked", "metadata": map[string]any{"name": name}}}
		if _, err := in("v1").Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	u, err := in("v2").Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil || u.Object["from"] != "hook" || u.GetAPIVersion() != "example.com/v2" {
		t.Errorf("%v, %v", u, err)
	}
	if _, err := in("v2").Get(t.Context(), "refused", metav1.GetOptions{}); err == nil || !strings.Contains(err.Error(), "conversion webhook for example.com/v1, Kind=Hooked failed: not this one") {
		t.Errorf("got %v", err)
	}
	if _, err := in("v2").List(t.Context(), metav1.ListOptions{}); err == nil || !strings.Contains(err.Error(), "not this one") {
		t.Errorf("a list with an object that is refused: %v", err)
	}
	if err := in("v1").Delete(t.Context(), "refused", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Hooked", "metadata": map[string]any{"name": fmt.Sprint("n", i)}}}
		if _, err := in("v1").Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	before := reviews.Load()
	list, err := in("v2").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 21 {
		t.Fatalf("%v, %v", list, err)
	}
	for _, item := range list.Items {
		if item.Object["from"] != "hook" || item.GetAPIVersion() != "example.com/v2" {
			t.Errorf("%s: %v", item.GetName(), item.Object)
		}
	}
	if n := reviews.Load() - before; n != 1 {
		t.Errorf("a list of 21 objects took %d conversion reviews, want 1", n)
	}
}
