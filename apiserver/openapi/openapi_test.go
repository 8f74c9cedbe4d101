package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"sigs.k8s.io/yaml"

	"skiff/apiserver/resources"
)

const (
	wantV2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	wantV3 = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
)

// served is what a handler answers.
func served(t *testing.T, h http.HandlerFunc, path, accept string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Accept", accept)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h(w, r)
	return w
}

// widget is a custom resource with a property of its own.
func widget(group, plural, property string) Custom {
	kind := title(strings.TrimSuffix(plural, "s"))
	return Custom{
		Resource: &resources.Resource{
			Group: group, Kind: kind, ListKind: kind + "List", Plural: plural, Namespaced: true,
			Verbs:        []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
			Subresources: map[string]resources.Subresource{"status": {Verbs: resources.StatusVerbs}},
			Versions: []resources.Version{{
				Name: "v1", New: func() runtime.Object { return &unstructured.Unstructured{} }, NewList: func() runtime.Object { return &unstructured.UnstructuredList{} },
			}},
		},
		Versions: []string{"v1"}, ETag: group + "/" + plural + "/" + property,
		Schema: func(string, bool) map[string]any {
			return object{"type": "object", "properties": object{property: object{"type": "string"}}}
		},
	}
}

// some serves a few kinds: what is compared whole must not be large.
func some() *OpenAPI {
	o := New("some")
	var few []Served
	for _, s := range everything().view().served {
		if slices.Contains([]string{"ConfigMap", "Pod", "Scale", "Lease", "Deployment"}, s.Resource.Kind) {
			few = append(few, s)
		}
	}
	o.Set(few)
	return o
}

func decoded(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
	return out
}

// TestProtobufIsTheSame compares the protobuf forms, which are put together from
// pieces, with what a reader makes of the whole JSON.
//
// Covers: api.openapi
func TestProtobufIsTheSame(t *testing.T) {
	o := some()
	o.SetCustom([]Custom{widget("a.example", "widgets", "size"), widget("a.example", "gears", "teeth"), widget("coordination.k8s.io", "wheels", "spokes")})
	t.Run("v2", func(t *testing.T) {
		want, err := openapiv2.ParseDocument(served(t, o.ServeV2, "/openapi/v2", "application/json").Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		w := served(t, o.ServeV2, "/openapi/v2", wantV2)
		var got openapiv2.Document
		if err := proto.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got.Paths.Path, func(a, b *openapiv2.NamedPathItem) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(want.Paths.Path, func(a, b *openapiv2.NamedPathItem) int { return strings.Compare(a.Name, b.Name) })
		byName := func(a, b *openapiv2.NamedSchema) int { return strings.Compare(a.Name, b.Name) }
		slices.SortFunc(got.Definitions.AdditionalProperties, byName)
		slices.SortFunc(want.Definitions.AdditionalProperties, byName)
		if diff := differ(t, want, &got); diff != "" {
			t.Errorf("differs (-JSON +protobuf):\n%.4000s", diff)
		}
	})
	for _, path := range []string{"apis/coordination.k8s.io/v1", "apis/a.example/v1", "apis/a.example", "version"} {
		t.Run("v3 "+path, func(t *testing.T) {
			want, err := openapiv3.ParseDocument(served(t, o.ServeV3, "/openapi/v3/"+path, "application/json").Body.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // made, and kept
				var got openapiv3.Document
				if err := proto.Unmarshal(served(t, o.ServeV3, "/openapi/v3/"+path, wantV3).Body.Bytes(), &got); err != nil {
					t.Fatal(err)
				}
				if diff := differ(t, want, &got); diff != "" {
					t.Errorf("differs (-JSON +protobuf):\n%.4000s", diff)
				}
			}
		})
	}
}

// differ compares two messages; the text of an extension may be in any style of YAML.
func differ(t *testing.T, want, got proto.Message) string {
	t.Helper()
	plain := func(m proto.Message) any {
		text, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var out any
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatal(err)
		}
		return readYAML(t, out)
	}
	w, g := plain(want), plain(got)
	if reflect.DeepEqual(w, g) {
		return ""
	}
	return cmp.Diff(w, g)
}

func readYAML(t *testing.T, v any) any {
	t.Helper()
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			if text, ok := e.(string); ok && k == "yaml" {
				var out any
				if err := yaml.Unmarshal([]byte(text), &out); err != nil {
					t.Fatal(err)
				}
				x[k] = out
				continue
			}
			x[k] = readYAML(t, e)
		}
	case []any:
		for i := range x {
			x[i] = readYAML(t, x[i])
		}
	}
	return v
}

// TestCustomResourcesComeAndGo follows both documents through changes.
//
// Covers: api.openapi
func TestCustomResourcesComeAndGo(t *testing.T) {
	o := some()
	type state struct {
		definitions []string // of groups of the test
		v2, v3      string   // hashes
	}
	read := func() state {
		w := served(t, o.ServeV2, "/openapi/v2", "application/json")
		doc := decoded(t, w.Body.Bytes())
		var s state
		for _, name := range slices.Sorted(maps.Keys(part(doc, "definitions"))) {
			if strings.HasPrefix(name, "example.") {
				s.definitions = append(s.definitions, name)
			}
		}
		paths := part(doc, "paths")
		for _, name := range s.definitions {
			if plural := strings.ToLower(name[strings.LastIndex(name, ".")+1:]) + "s"; !strings.HasSuffix(name, "List") && paths["/apis/a.example/v1/namespaces/{namespace}/"+plural+"/{name}/status"] == nil {
				t.Errorf("%s has no path", plural)
			}
		}
		if (len(s.definitions) > 0) != (paths["/apis/a.example/v1/"] != nil) || (len(s.definitions) > 0) != (paths["/apis/a.example/"] != nil) {
			t.Errorf("the group's own documents with definitions %v", s.definitions)
		}
		s.v2 = w.Header().Get("ETag")
		if again := served(t, o.ServeV2, "/openapi/v2", wantV2, "If-None-Match", s.v2); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("known document: %d with %d bytes", again.Code, again.Body.Len())
		}
		index := served(t, o.ServeV3Index, "/openapi/v3", "application/json")
		if again := served(t, o.ServeV3Index, "/openapi/v3", "application/json", "If-None-Match", index.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("known index: %d", again.Code)
		}
		s.v3 = fmt.Sprint(part(decoded(t, index.Body.Bytes()), "paths")["apis/a.example/v1"])
		return s
	}
	widgets := []string{"example.a.v1.Widget", "example.a.v1.WidgetList"}
	gears := []string{"example.a.v1.Gear", "example.a.v1.GearList"}
	known := map[string]string{}
	for _, step := range []struct {
		name   string
		custom []Custom
		want   []string
	}{
		{"none", nil, nil},
		{"one", []Custom{widget("a.example", "widgets", "size")}, widgets},
		{"changed", []Custom{widget("a.example", "widgets", "weight")}, widgets},
		{"two", []Custom{widget("a.example", "gears", "teeth"), widget("a.example", "widgets", "weight")}, append(slices.Clone(gears), widgets...)},
		{"the other", []Custom{widget("a.example", "gears", "teeth")}, gears},
	} {
		o.SetCustom(step.custom)
		got := read()
		if diff := cmp.Diff(step.want, got.definitions); diff != "" {
			t.Errorf("%s: definitions (-want +got):\n%s", step.name, diff)
		}
		for _, tag := range []string{got.v2, got.v3} {
			if was := known[tag]; was != "" {
				t.Errorf("%s has a hash of %s", step.name, was)
			}
			known[tag] = step.name
		}
		for _, c := range step.custom {
			text := served(t, o.ServeV2, "/openapi/v2", "application/json").Body.String()
			property := c.ETag[strings.LastIndex(c.ETag, "/")+1:]
			if !strings.Contains(text, `"`+property+`":{`) {
				t.Errorf("%s: v2 lacks %s", step.name, property)
			}
		}
	}
	o.SetCustom(nil)
	if got := read(); known[got.v2] != "none" {
		t.Errorf("the hash without custom resources is another one after they went")
	}
	if n := len(o.view().pieces.known); n != 0 {
		t.Errorf("%d pieces of what went are kept", n)
	}
}

// TestManyRead reads while custom resources change. Every answer is a whole
// document.
//
// Covers: api.openapi
func TestManyRead(t *testing.T) {
	o := some()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 3 {
				if i == 0 {
					o.SetCustom([]Custom{widget("a.example", "widgets", fmt.Sprint("p", j)), widget("b.example", "gears", "teeth")})
				}
				decoded(t, served(t, o.ServeV2, "/openapi/v2", "application/json").Body.Bytes())
				var doc openapiv2.Document
				if err := proto.Unmarshal(served(t, o.ServeV2, "/openapi/v2", wantV2).Body.Bytes(), &doc); err != nil {
					t.Error(err)
				}
				decoded(t, served(t, o.ServeV3Index, "/openapi/v3", "application/json").Body.Bytes())
			}
		})
	}
	all.Wait()
}

// TestNamesThatAreTaken: a custom resource whose published name is a built-in
// type's does not define it again.
//
// Covers: api.openapi
func TestNamesThatAreTaken(t *testing.T) {
	o := everything()
	o.SetCustom([]Custom{widget("core.api.k8s.io", "pods", "size")})
	text := served(t, o.ServeV2, "/openapi/v2", "application/json").Body.Bytes()
	if n := bytes.Count(text, []byte(`"io.k8s.api.core.v1.Pod":{`)); n != 1 {
		t.Errorf("defined %d times", n)
	}
	if part(decoded(t, text), "definitions", "io.k8s.api.core.v1.Pod", "properties")["size"] != nil {
		t.Error("the built-in type is not what is published")
	}
}

// BenchmarkManyCustomResources is the first document of a thousand definitions.
func BenchmarkManyCustomResources(b *testing.B) {
	var custom []Custom
	for i := range 1000 {
		custom = append(custom, widget(fmt.Sprintf("g%d.example", i/10), fmt.Sprintf("widget%ds", i), "size"))
	}
	for _, accept := range []string{"application/json", wantV2} {
		b.Run(accept, func(b *testing.B) {
			for b.Loop() {
				o := everything()
				o.SetCustom(custom)
				r := httptest.NewRequest(http.MethodGet, "/openapi/v2", nil)
				r.Header.Set("Accept", accept)
				o.ServeV2(discard{http.Header{}}, r)
			}
		})
	}
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
