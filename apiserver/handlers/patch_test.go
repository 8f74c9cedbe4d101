package handlers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	jsonPatch  = "application/json-patch+json"
	mergePatch = "application/merge-patch+json"
	smPatch    = "application/strategic-merge-patch+json"
	applyYAML  = "application/apply-patch+yaml"
)

// Covers: api.patch
func TestPatch(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"},"data":{"k":"1","gone":"x"}}`)
	for _, tc := range []struct {
		name, media, body string
		want              map[string]string
	}{
		{"JSON patch", jsonPatch, `[{"op":"test","path":"/data/k","value":"1"},{"op":"replace","path":"/data/k","value":"2"},{"op":"remove","path":"/data/gone"}]`, map[string]string{"k": "2"}},
		{"merge patch", mergePatch, `{"data":{"l":"3","k":null}}`, map[string]string{"l": "3"}},
		{"strategic merge patch", smPatch, `{"data":{"m":"4"}}`, map[string]string{"l": "3", "m": "4"}},
		{"nothing", mergePatch, `{}`, map[string]string{"l": "3", "m": "4"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _, _ := unstructured.NestedStringMap(s.must(http.StatusOK, "PATCH", maps+"/a", tc.body, "Content-Type", tc.media).doc(t).Object, "data")
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// A patch that empties the managed fields has them begin anew; any other keeps them.
func TestPatchedManagedFields(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps+"?fieldManager=first", `{"metadata":{"name":"a"},"data":{"k":"1"}}`)
	for _, tc := range []struct {
		name, media, body string
		want              []string
	}{
		{"merge, another field", mergePatch, `{"data":{"l":"1"}}`, []string{"first", "second"}},
		{"strategic merge, another field", smPatch, `{"data":{"l":"2"}}`, []string{"first", "second"}},
		{"merge, emptied", mergePatch, `{"metadata":{"managedFields":[{}]}}`, []string{}},
		{"merge, of an object without", mergePatch, `{"data":{"l":"3"}}`, []string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := []string{}
			for _, e := range s.must(http.StatusOK, "PATCH", maps+"/a?fieldManager=second", tc.body, "Content-Type", tc.media).doc(t).GetManagedFields() {
				got = append(got, e.Manager)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Covers: api.patch
func TestStrategicMergeByKey(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", deploys, deployBody)
	got := s.must(http.StatusOK, "PATCH", deploys+"/d", `{"spec":{"template":{"spec":{"containers":[{"name":"e","image":"f"}]}}}}`, "Content-Type", smPatch).doc(t)
	list, _, _ := unstructured.NestedSlice(got.Object, "spec", "template", "spec", "containers")
	if len(list) != 2 {
		t.Errorf("containers %v: the second was not merged by name", list)
	}
}

func TestPatchRefuses(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"},"data":{"k":"0123456789"}}`)
	bomb := []string{`{"op":"add","path":"/data/x","value":"` + strings.Repeat("x", 1000) + `"}`}
	for i := range 40 {
		bomb = append(bomb, fmt.Sprintf(`{"op":"copy","from":"/data","path":"/data/c%d"}`, i))
	}
	many := strings.TrimSuffix(strings.Repeat(`{"op":"test","path":"/data/k","value":"1"},`, 10001), ",")
	for _, tc := range []struct {
		name, path, media, body string
		code                    int
		message                 string
	}{
		{"test fails", maps + "/a", jsonPatch, `[{"op":"test","path":"/data/k","value":"2"}]`, 422, ""},
		{"path missing", maps + "/a", jsonPatch, `[{"op":"remove","path":"/data/none"}]`, 422, ""},
		{"no JSON", maps + "/a", jsonPatch, `[`, 400, ""},
		{"no list", maps + "/a", jsonPatch, `{}`, 400, ""},
		{"too many operations", maps + "/a", jsonPatch, "[" + many + "]", 413, "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"},
		{"copies that double", maps + "/a", jsonPatch, "[" + strings.Join(bomb, ",") + "]", 413, ""},
		{"missing object", maps + "/none", mergePatch, `{}`, 404, `configmaps "none" not found`},
		{"wrong type", maps + "/a", mergePatch, `{"data":3}`, 422, ""},
		{"wrong type, strategic", maps + "/a", smPatch, `{"immutable":"x"}`, 422, ` "" is invalid: patch: Invalid value: "map[immutable:x]": unrecognized type: bool`},
		{"other kind", maps + "/a", mergePatch, `{"kind":"Secret"}`, 422, ""},
		{"field twice, strict", maps + "/a?fieldValidation=Strict", mergePatch, `{"data":{"x":"1"},"data":{"y":"2"}}`, 422, ""},
		{"all replaced", maps + "/a", smPatch, `{"$patch":"replace","data":{"q":"r"}}`, 400, "the name of the object (a based on URL) was undeterminable: name must be provided"},
		{"other UID", maps + "/a", mergePatch, `{"metadata":{"uid":"x"}}`, 422, `ConfigMap "a" is invalid: metadata.uid: Invalid value: "x": field is immutable`},
		{"no object", maps + "/a", mergePatch, `[]`, 400, ""},
		{"unknown field, strategic, strict", maps + "/a?fieldValidation=Strict", smPatch, `{"dat":{}}`, 422, ` "" is invalid: patch: Invalid value: "map[dat:map[]]": strict decoding error: unknown field "dat"`},
		{"unknown field, strict", maps + "/a?fieldValidation=Strict", mergePatch, `{"dat":{}}`, 422, ""},
		{"other name", maps + "/a", mergePatch, `{"metadata":{"name":"b"}}`, 400, "the name of the object (b) does not match the name on the URL (a)"},
		{"old version", maps + "/a", mergePatch, `{"metadata":{"resourceVersion":"1"},"data":{"k":"2"}}`, 409, ""},
		{"force without apply", maps + "/a?force=true", mergePatch, `{}`, 422, ""},
		{"media type", maps + "/a", "application/json", `{}`, 415, "415: Unsupported Media Type"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.call("PATCH", tc.path, tc.body, "Content-Type", tc.media)
			if st := a.status(t); a.code != tc.code || tc.message != "" && st.Message != tc.message {
				t.Errorf("code %d, message %.300q; want %d, %q", a.code, st.Message, tc.code, tc.message)
			}
		})
	}
	got, _, _ := unstructured.NestedStringMap(s.must(http.StatusOK, "GET", maps+"/a", "").doc(t).Object, "data")
	if d := cmp.Diff(map[string]string{"k": "0123456789"}, got); d != "" {
		t.Error(d)
	}
}
