package handlers_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
)

const applied = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n"

// Covers: api.apply
func TestApply(t *testing.T) {
	s := newServer(t)
	apply := func(code int, manager, data string, more ...string) answer {
		t.Helper()
		return s.must(code, "PATCH", maps+"/a?fieldManager="+manager+strings.Join(more, ""), applied+data, "Content-Type", applyYAML)
	}
	got := apply(http.StatusCreated, "one", "  x: '1'\n  y: '1'\n").doc(t)
	if mf := got.GetManagedFields(); len(mf) != 1 || mf[0].Manager != "one" || mf[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("managed fields %v", mf)
	}
	again := apply(http.StatusOK, "one", "  x: '1'\n  y: '1'\n").doc(t)
	if again.GetResourceVersion() != got.GetResourceVersion() {
		t.Error("applying the same again was written")
	}
	st := apply(http.StatusConflict, "two", "  x: '2'\n").status(t)
	want := []metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "one"`, Field: ".data.x"}}
	if st.Message != `Apply failed with 1 conflict: conflict with "one": .data.x` || st.Details == nil || cmp.Diff(want, st.Details.Causes) != "" {
		t.Errorf("status %+v", st)
	}
	apply(http.StatusOK, "two", "  x: '2'\n", "&force=true")
	got = apply(http.StatusOK, "one", "  z: '3'\n").doc(t)
	data, _, _ := unstructured.NestedStringMap(got.Object, "data")
	if d := cmp.Diff(map[string]string{"x": "2", "z": "3"}, data); d != "" {
		t.Errorf("y was not removed with its owner, or x was: %s", d)
	}
}

func TestApplyKeepsDefaultsAndGenerations(t *testing.T) {
	s := newServer(t)
	got := s.must(http.StatusCreated, "PATCH", deploys+"/d?fieldManager=m", deployBody, "Content-Type", applyYAML).doc(t)
	if v, _, _ := unstructured.NestedString(got.Object, "spec", "strategy", "type"); v != "RollingUpdate" || got.GetGeneration() != 1 {
		t.Errorf("strategy %q, generation %d", v, got.GetGeneration())
	}
	again := s.must(http.StatusOK, "PATCH", deploys+"/d?fieldManager=m", deployBody, "Content-Type", applyYAML).doc(t)
	if again.GetResourceVersion() != got.GetResourceVersion() {
		t.Error("applying the same again was written")
	}
	next := s.must(http.StatusOK, "PATCH", deploys+"/d?fieldManager=m", strings.Replace(deployBody, `"replicas":1`, `"replicas":2`, 1), "Content-Type", applyYAML).doc(t)
	if next.GetGeneration() != 2 {
		t.Errorf("generation %d after a change", next.GetGeneration())
	}
}

// Covers: api.apply
func TestApplyRefuses(t *testing.T) {
	s := newServer(t)
	for _, tc := range []struct {
		name, path, body string
		code             int
		message          string
	}{
		{"no manager", maps + "/a", applied + "  x: '1'\n", 422, `PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch`},
		{"no YAML", maps + "/a?fieldManager=m", "a: b: c", 400, ""},
		{"unknown field", maps + "/a?fieldManager=m", applied + "  x: '1'\nmore: 1\n", 500, "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .more: field not declared in schema"},
		{"other version", maps + "/a?fieldManager=m", strings.Replace(applied, "v1", "v2", 1) + "  x: '1'\n", 400, "invalid object type: /v2, Kind=ConfigMap"},
		{"other name", maps + "/b?fieldManager=m", applied + "  x: '1'\n", 400, ""},
		{"managed fields", maps + "/a?fieldManager=m", strings.Replace(applied, "  name: a\n", "  name: a\n  managedFields:\n  - manager: x\n", 1) + "  x: '1'\n", 400, "metadata.managedFields must be nil"},
		{"uid of nothing", maps + "/a?fieldManager=m", strings.Replace(applied, "  name: a\n", "  name: a\n  uid: u\n", 1) + "  x: '1'\n", 409, `Operation cannot be fulfilled on configmaps "a": uid mismatch: the provided object specified uid u, and no existing object was found`},
		{"status of nothing", deploys + "/d/status?fieldManager=m", deployBody, 404, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.call("PATCH", tc.path, tc.body, "Content-Type", applyYAML)
			if st := a.status(t); a.code != tc.code || tc.message != "" && st.Message != tc.message {
				t.Errorf("code %d, message %q; want %d, %q", a.code, st.Message, tc.code, tc.message)
			}
		})
	}
}

// Covers: api.apply
func TestApplyTakesOverFromUpdate(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"},"data":{"x":"1"}}`)
	s.must(http.StatusConflict, "PATCH", maps+"/a?fieldManager=m", applied+"  x: '2'\n", "Content-Type", applyYAML)
	s.must(http.StatusOK, "PATCH", maps+"/a?fieldManager=m", applied+"  x: '1'\n", "Content-Type", applyYAML)
}

func TestApplyCustomResourceAsCBOR(t *testing.T) {
	s := newServer(t)
	body, err := cbordirect.Marshal(map[string]any{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": map[string]any{"name": "w"}, "spec": map[string]any{"size": 3}})
	if err != nil {
		t.Fatal(err)
	}
	got := s.must(http.StatusCreated, "PATCH", "/apis/example.com/v1/namespaces/ns/widgets/w?fieldManager=m", string(body), "Content-Type", "application/apply-patch+cbor").doc(t)
	if n, _, _ := unstructured.NestedFieldNoCopy(got.Object, "spec", "size"); n != int64(3) {
		t.Errorf("spec.size %v", n)
	}
	if len(got.GetManagedFields()) != 1 || got.GetGeneration() != 1 {
		t.Errorf("metadata %v", got.Object["metadata"])
	}
}
