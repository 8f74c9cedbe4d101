package apiserver_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"sigs.k8s.io/yaml"
)

const widgets = `
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    selectableFields: [{jsonPath: .spec.color}]
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: "self.size <= 10", message: too large}
            - {rule: "self.size >= oldSelf.size", messageExpression: "self.size < 5 ? 'shrunk below five' : 'shrunk'"}
            properties:
              size: {type: integer, default: 3, minimum: 1}
              color: {type: string, enum: [red, green]}
              replicas: {type: integer}
              port: {x-kubernetes-int-or-string: true}
              open: {type: object, x-kubernetes-preserve-unknown-fields: true}
              template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
              items:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, required: [name], properties: {name: {type: string}, value: {type: string}}}
          status:
            type: object
            properties: {replicas: {type: integer}, selector: {type: string}}
  - name: v1beta1
    served: true
    storage: false
    deprecated: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

type extended struct {
	*running
	crds crdclient.Interface
	dyn  dynamic.Interface
}

func startExtended(t *testing.T) *extended {
	t.Helper()
	r := start(t, nil)
	return &extended{r, crdclient.NewForConfigOrDie(r.admin), dynamic.NewForConfigOrDie(r.admin)}
}

func definition(t *testing.T, text string) *v1.CustomResourceDefinition {
	t.Helper()
	crd := &v1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte(text), crd); err != nil {
		t.Fatal(err)
	}
	return crd
}

// until watches a definition until ok, or until it is gone (nil).
func (e *extended) until(t *testing.T, name string, ok func(*v1.CustomResourceDefinition) bool) *v1.CustomResourceDefinition {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := e.crds.ApiextensionsV1().CustomResourceDefinitions().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var last *v1.CustomResourceDefinition
	for event := range w.ResultChan() {
		crd, is := event.Object.(*v1.CustomResourceDefinition)
		if !is {
			t.Fatalf("event %v", event)
		}
		last = crd
		if event.Type == "DELETED" {
			crd = nil
		}
		if ok(crd) {
			return crd
		}
	}
	t.Fatalf("the definition %s does not become what is waited for: %+v", name, last.Status)
	return nil
}

func established(crd *v1.CustomResourceDefinition) bool {
	return crd != nil && apihelpers.IsCRDConditionTrue(crd, v1.Established)
}

func (e *extended) define(t *testing.T, text string) {
	t.Helper()
	crd, err := e.crds.ApiextensionsV1().CustomResourceDefinitions().Create(t.Context(), definition(t, text), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e.until(t, crd.Name, established)
}

func widget(version, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/" + version, "kind": "Widget", "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

// raw asks for a path and returns the body and the warnings.
func (e *extended) raw(t *testing.T, path, accept string) ([]byte, http.Header) {
	t.Helper()
	client, err := rest.HTTPClientFor(e.admin)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.admin.Host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s, %v", path, resp.StatusCode, b, err)
	}
	return b, resp.Header
}

// TestCustomResources follows one definition from its creation to its end.
//
// Covers: api.custom-schema, api.custom-cel, api.custom-subresources, api.custom-conditions
func TestCustomResources(t *testing.T) {
	e := startExtended(t)
	ctx := t.Context()
	e.define(t, widgets)
	gvr := schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}
	ws := e.dyn.Resource(gvr).Namespace("default")

	t.Run("discovery", func(t *testing.T) {
		list, err := e.client.Discovery().ServerResourcesForGroupVersion("example.com/v1")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range list.APIResources {
			names = append(names, r.Name)
		}
		if diff := cmp.Diff([]string{"widgets", "widgets/status", "widgets/scale"}, names); diff != "" {
			t.Error(diff)
		}
		if r := list.APIResources[0]; r.SingularName != "widget" || !slices.Equal(r.ShortNames, []string{"wd"}) || !r.Namespaced {
			t.Errorf("%+v", r)
		}
		g, err := e.client.Discovery().ServerGroups()
		if err != nil || !slices.ContainsFunc(g.Groups, func(g metav1.APIGroup) bool {
			return g.Name == "example.com" && g.PreferredVersion.Version == "v1" && len(g.Versions) == 2
		}) {
			t.Errorf("groups %v, %v", g, err)
		}
	})
	t.Run("unknown fields", func(t *testing.T) {
		_, err := ws.Create(ctx, widget("v1", "strict", map[string]any{"size": int64(1), "foo": "bar"}), metav1.CreateOptions{FieldValidation: "Strict"})
		want := `Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.foo"`
		if !apierrors.IsBadRequest(err) || err.Error() != want {
			t.Errorf("got %v", err)
		}
		w, err := ws.Create(ctx, widget("v1", "pruned", map[string]any{
			"foo": "bar", "open": map[string]any{"any": "thing"}, "port": "http",
			"template": map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "x", "bad": "y"}},
		}), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want2 := map[string]any{
			"size": int64(3), "open": map[string]any{"any": "thing"}, "port": "http",
			"template": map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "x"}},
		}
		if diff := cmp.Diff(want2, w.Object["spec"]); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("rules", func(t *testing.T) {
		for _, c := range []struct {
			name string
			spec map[string]any
			want string
		}{
			{"schema", map[string]any{"size": int64(0)}, `Widget.example.com "w" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1`},
			{"enum", map[string]any{"color": "blue"}, `Widget.example.com "w" is invalid: [spec.color: Unsupported value: "blue": supported values: "red", "green", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]`},
			{"cel", map[string]any{"size": int64(11)}, `Widget.example.com "w" is invalid: spec: Invalid value: too large`},
			{"keys", map[string]any{"items": []any{map[string]any{"name": "a"}, map[string]any{"name": "a"}}}, `Widget.example.com "w" is invalid: spec.items[1]: Duplicate value: {"name":"a"}`},
		} {
			t.Run(c.name, func(t *testing.T) {
				if _, err := ws.Create(ctx, widget("v1", "w", c.spec), metav1.CreateOptions{}); !apierrors.IsInvalid(err) || err.Error() != c.want {
					t.Errorf("got  %v\nwant %s", err, c.want)
				}
			})
		}
	})
	t.Run("update, status and scale", func(t *testing.T) {
		w := widget("v1", "a", map[string]any{"size": int64(5), "color": "red"})
		w.Object["status"] = map[string]any{"replicas": int64(9)}
		w, err := ws.Create(ctx, w, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if w.Object["status"] != nil || w.GetGeneration() != 1 {
			t.Errorf("status %v, generation %d", w.Object["status"], w.GetGeneration())
		}
		_, err = ws.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"size":4}}`), metav1.PatchOptions{})
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "shrunk below five") {
			t.Errorf("a transition rule let it through: %v", err)
		}
		if w, err = ws.Patch(ctx, "a", types.MergePatchType, []byte(`{"status":{"replicas":2,"selector":"a=b"},"spec":{"size":1}}`), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		size, _, _ := unstructured.NestedInt64(w.Object, "spec", "size")
		if size != 5 || w.GetGeneration() != 1 {
			t.Errorf("a status update changed the spec: size %d, generation %d", size, w.GetGeneration())
		}
		if _, err := ws.Get(ctx, "a", metav1.GetOptions{}, "scale"); err == nil || !strings.Contains(err.Error(), `the spec replicas field ".spec.replicas" does not exist`) {
			t.Errorf("scale without replicas: %v", err)
		}
		if _, err := ws.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"replicas":7}}`), metav1.PatchOptions{}, "scale"); err != nil {
			t.Fatal(err)
		}
		scale, err := ws.Get(ctx, "a", metav1.GetOptions{}, "scale")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]any{map[string]any{"replicas": int64(7)}, map[string]any{"replicas": int64(2), "selector": "a=b"}},
			[]any{scale.Object["spec"], scale.Object["status"]}); diff != "" {
			t.Error(diff)
		}
		if w, err = ws.Get(ctx, "a", metav1.GetOptions{}); err != nil || w.GetGeneration() != 2 {
			t.Errorf("generation %d after scaling, %v", w.GetGeneration(), err)
		}
	})
	t.Run("apply", func(t *testing.T) {
		apply := func(manager, item string) (*unstructured.Unstructured, error) {
			return ws.Apply(ctx, "applied", widget("v1", "applied", map[string]any{"items": []any{map[string]any{"name": item, "value": manager}}}), metav1.ApplyOptions{FieldManager: manager})
		}
		if _, err := apply("one", "a"); err != nil {
			t.Fatal(err)
		}
		w, err := apply("two", "b")
		if err != nil {
			t.Fatal(err)
		}
		items, _, _ := unstructured.NestedSlice(w.Object, "spec", "items")
		if len(items) != 2 {
			t.Errorf("items %v", items)
		}
		if _, err := apply("two", "a"); !apierrors.IsConflict(err) {
			t.Errorf("no conflict: %v", err)
		}
	})
	t.Run("other version", func(t *testing.T) {
		old := e.dyn.Resource(gvr.GroupResource().WithVersion("v1beta1")).Namespace("default")
		w, err := old.Get(ctx, "a", metav1.GetOptions{})
		if err != nil || w.GetAPIVersion() != "example.com/v1beta1" {
			t.Fatalf("%v, %v", w, err)
		}
		if err := unstructured.SetNestedField(w.Object, int64(6), "spec", "size"); err != nil {
			t.Fatal(err)
		}
		if w, err = old.Update(ctx, w, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		rev := w.GetResourceVersion()
		if w, err = old.Update(ctx, w, metav1.UpdateOptions{}); err != nil || w.GetResourceVersion() != rev {
			t.Errorf("an update without changes wrote: %v", err)
		}
		if w, err = ws.Get(ctx, "a", metav1.GetOptions{}); err != nil || w.GetAPIVersion() != "example.com/v1" {
			t.Errorf("%v, %v", w, err)
		}
		_, h := e.raw(t, "/apis/example.com/v1beta1/widgets", "application/json")
		if got := h.Get("Warning"); got != `299 - "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget"` {
			t.Errorf("warning %q", got)
		}
	})
	t.Run("table and selectors", func(t *testing.T) {
		b, _ := e.raw(t, "/apis/example.com/v1/namespaces/default/widgets?fieldSelector=spec.color%3Dred", "application/json;as=Table;v=v1;g=meta.k8s.io")
		var table metav1.Table
		if err := json.Unmarshal(b, &table); err != nil {
			t.Fatal(err)
		}
		if len(table.Rows) != 1 || len(table.ColumnDefinitions) != 2 {
			t.Fatalf("%d rows of %v", len(table.Rows), table.ColumnDefinitions)
		}
		if diff := cmp.Diff([]any{"a", float64(6)}, table.Rows[0].Cells); diff != "" {
			t.Error(diff)
		}
		if _, err := ws.List(ctx, metav1.ListOptions{FieldSelector: "spec.size=3"}); !apierrors.IsBadRequest(err) {
			t.Errorf("a field that is not selectable: %v", err)
		}
	})
	t.Run("openapi", func(t *testing.T) {
		b, _ := e.raw(t, "/openapi/v3/apis/example.com/v1", "application/json")
		for _, want := range []string{`"com.example.v1.Widget"`, `"/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/scale"`, `"x-kubernetes-list-map-keys"`} {
			if !strings.Contains(string(b), want) {
				t.Errorf("v3 lacks %s", want)
			}
		}
		doc, err := e.client.Discovery().OpenAPISchema()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(doc.GetDefinitions().GetAdditionalProperties(), func(p *openapiv2.NamedSchema) bool { return p.GetName() == "com.example.v1.Widget" }) {
			t.Error("v2 lacks the definition")
		}
	})
	t.Run("names in use", func(t *testing.T) {
		text := strings.NewReplacer("widgets", "gadgets", "[wd]", "[wd]").Replace(widgets)
		crd, err := e.crds.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, definition(t, text), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		crd = e.until(t, crd.Name, func(crd *v1.CustomResourceDefinition) bool {
			return apihelpers.FindCRDCondition(crd, v1.NamesAccepted) != nil
		})
		if c := apihelpers.FindCRDCondition(crd, v1.NamesAccepted); c.Status != v1.ConditionFalse || c.Reason != "ListKindConflict" || c.Message != `"WidgetList" is already in use` {
			t.Errorf("%+v", c)
		}
	})
	t.Run("changed schema", func(t *testing.T) {
		crd, err := e.crds.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, "widgets.example.com", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		spec.Properties["added"] = v1.JSONSchemaProps{Type: "string"}
		crd.Spec.Versions[1].Served = false
		crd.Spec.Versions = append(crd.Spec.Versions, *crd.Spec.Versions[0].DeepCopy())
		crd.Spec.Versions[2].Name = "v2"
		crd.Spec.Versions[0].Storage = false
		if crd, err = e.crds.ApiextensionsV1().CustomResourceDefinitions().Update(ctx, crd, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"v1", "v2"}, crd.Status.StoredVersions); diff != "" {
			t.Error(diff)
		}
		// The change is served soon; until then the field is unknown.
		served := func() bool {
			_, err := e.dyn.Resource(gvr.GroupResource().WithVersion("v2")).Namespace("default").Get(ctx, "a", metav1.GetOptions{})
			return err == nil
		}
		eventually(t, served)
		w, err := ws.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"added":"x"}}`), metav1.PatchOptions{FieldValidation: "Strict"})
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := unstructured.NestedString(w.Object, "spec", "added"); got != "x" || w.GetAPIVersion() != "example.com/v1" {
			t.Errorf("%v", w.Object)
		}
		if _, err := e.dyn.Resource(gvr.GroupResource().WithVersion("v1beta1")).Namespace("default").Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("a version that is not served: %v", err)
		}
	})
	t.Run("end", func(t *testing.T) {
		// An object with a finalizer holds the definition back, and no other is made.
		if _, err := ws.Patch(ctx, "a", types.MergePatchType, []byte(`{"metadata":{"finalizers":["example.com/wait"]}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := e.crds.ApiextensionsV1().CustomResourceDefinitions().Delete(ctx, "widgets.example.com", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool {
			_, err := ws.Create(ctx, widget("v1", "late", map[string]any{}), metav1.CreateOptions{DryRun: []string{"All"}})
			return apierrors.IsMethodNotSupported(err) && err.Error() == "create not allowed while custom resource definition is terminating"
		})
		eventually(t, func() bool {
			w, err := ws.Get(ctx, "a", metav1.GetOptions{})
			return err == nil && w.GetDeletionTimestamp() != nil
		})
		if _, err := ws.Patch(ctx, "a", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		e.until(t, "widgets.example.com", func(crd *v1.CustomResourceDefinition) bool { return crd == nil })
		e.until(t, "gadgets.example.com", established) // its names are free now
		e.define(t, strings.NewReplacer("Widget", "Other", "wd", "ot").Replace(widgets))
		l, err := ws.List(ctx, metav1.ListOptions{})
		if err != nil || len(l.Items) != 0 {
			t.Errorf("objects outlived their definition: %v, %v", l, err)
		}
	})
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come about")
		}
	}
}
