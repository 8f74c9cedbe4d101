package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

const (
	objectMeta  = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
	versionInfo = "io.k8s.apimachinery.pkg.version.Info"
)

// otherDocument is what a server of other.example.com says in v2, with one form of
// ObjectMeta, and version.Info as it is here.
func otherDocument(t *testing.T, version, metaDescription string, here object) []byte {
	t.Helper()
	ref := func(name string) object { return object{"$ref": "#/definitions/" + name} }
	thing := "com.example.other." + version + ".Thing"
	b, err := json.Marshal(object{
		"swagger": "2.0", "info": object{"title": "other", "version": "1"},
		"paths": object{
			"/apis/other.example.com/":                 object{"get": object{"responses": object{"200": object{"description": "OK"}}}},
			"/apis/other.example.com/" + version + "/": object{"get": object{"responses": object{"200": object{"description": "theirs"}}}},
			"/apis/other.example.com/v9/things":        object{"get": object{"responses": object{"200": object{"description": "OK", "schema": ref("unrelated")}}}},
			"/api/v1/pods":                             object{"get": object{"responses": object{"200": object{"description": "not theirs to say"}}}},
			"/apis/other.example.com/" + version + "/things": object{
				"parameters": []any{object{"$ref": "#/parameters/pretty-tJGM1-ng"}},
				"get":        object{"produces": []any{"application/json"}, "responses": object{"200": object{"description": "OK", "schema": ref(thing)}}},
				"post":       object{"consumes": []any{"application/json"}, "parameters": []any{object{"$ref": "#/parameters/body"}}, "responses": object{"200": object{"description": "OK"}}},
			},
		},
		"parameters": object{
			"pretty-tJGM1-ng": object{"in": "query", "name": "theirs", "type": "string", "uniqueItems": true},
			"body":            object{"in": "body", "name": "body", "required": true, "schema": ref("com.example.other.Body")},
		},
		"definitions": object{
			thing: object{
				"type": "object", "description": thing, "properties": object{"metadata": ref(objectMeta), "list": ref(versionInfo), "again": ref(thing)},
				"x-kubernetes-group-version-kind": []any{object{"group": "other.example.com", "version": version, "kind": "Thing"}},
			},
			"com.example.other.Body": object{"type": "object"},
			objectMeta:               object{"type": "object", "description": metaDescription},
			versionInfo:              here,
			"unrelated":              object{"type": "object"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What other servers describe in v2 is part of the one document: their group
// versions' paths, and the definitions of these, by other names where the document
// has something else under theirs.
//
// Covers: api.openapi, api.aggregation
func TestOtherServersInV2(t *testing.T) {
	o := everything()
	o.SetCustom([]Custom{widget("example.com", "widgets", "size")})
	document := func() (object, string) {
		w := served(t, o.ServeV2, "/openapi/v2", "application/json")
		return decoded(t, w.Body.Bytes()), w.Header().Get("ETag")
	}
	before, tag := document()
	here := part(before, "definitions", versionInfo)
	set := func(version, text string) {
		t.Helper()
		path := "apis/other.example.com/" + version
		o.SetExtra(path, []byte(`{"openapi":"3.0.0"}`))
		if err := o.SetExtraV2(path, otherDocument(t, version, text, here)); err != nil {
			t.Fatal(err)
		}
	}
	set("v1", "one form")
	_, first := document()
	set("v2", "one form")
	set("v3", "another form")
	after, next := document()
	if tag == first || first == next {
		t.Errorf("the hashes of three documents are %s %s %s", tag, first, next)
	}

	added := func(key string) []string {
		return slices.Sorted(func(yield func(string) bool) {
			for name := range part(after, key) {
				if part(before, key)[name] == nil && !yield(name) {
					return
				}
			}
		})
	}
	wantPaths := []string{"/apis/other.example.com/"}
	for _, v := range []string{"v1", "v2", "v3"} {
		wantPaths = append(wantPaths, "/apis/other.example.com/"+v+"/", "/apis/other.example.com/"+v+"/things")
	}
	if d := cmp.Diff(wantPaths, added("paths")); d != "" {
		t.Error(d)
	}
	wantDefinitions := []string{
		"com.example.other.Body", "com.example.other.v1.Thing", "com.example.other.v2.Thing", "com.example.other.v3.Thing", objectMeta + "_v2", objectMeta + "_v3",
	}
	if d := cmp.Diff(wantDefinitions, added("definitions")); d != "" {
		t.Error(d)
	}
	for version, meta := range map[string]string{"v1": "_v2", "v2": "_v2", "v3": "_v3"} {
		want := map[string]any{
			"metadata": map[string]any{"$ref": "#/definitions/" + objectMeta + meta}, "list": map[string]any{"$ref": "#/definitions/" + versionInfo},
			"again": map[string]any{"$ref": "#/definitions/com.example.other." + version + ".Thing"},
		}
		if d := cmp.Diff(want, part(after, "definitions", "com.example.other."+version+".Thing", "properties")); d != "" {
			t.Error(version, d)
		}
	}
	things := part(after, "paths", "/apis/other.example.com/v1/things")
	if d := cmp.Diff([]any{map[string]any{"in": "query", "name": "theirs", "type": "string", "uniqueItems": true}}, things["parameters"]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(part(before, "paths", "/api/v1/pods"), part(after, "paths", "/api/v1/pods")); d != "" {
		t.Error(d)
	}
	if text := part(after, "paths", "/apis/other.example.com/v1/", "get", "responses", "200")["description"]; text == "theirs" {
		t.Error("the listing is not ours")
	}

	var doc openapiv2.Document
	if err := proto.Unmarshal(served(t, o.ServeV2, "/openapi/v2", wantV2).Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	inProto := map[string]bool{}
	for _, d := range doc.Definitions.AdditionalProperties {
		inProto[d.Name] = true
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(part(after, "definitions"))), slices.Sorted(maps.Keys(inProto))); d != "" {
		t.Error("protobuf has other definitions", d)
	}

	for _, version := range []string{"v1", "v2", "v3"} {
		path := "apis/other.example.com/" + version
		o.SetExtra(path, nil)
		if err := o.SetExtraV2(path, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, end := document(); end != tag {
		t.Error("something is left of servers that have gone")
	}
}

// A document that cannot be read, or refers to what it does not have, leaves ours as
// it is.
//
// Covers: api.openapi, api.aggregation
func TestOtherServersBadDocuments(t *testing.T) {
	const path = "apis/other.example.com/v1"
	item := func(ref string) string {
		return `{"swagger":"2.0","paths":{"/apis/other.example.com/v1/things":{"get":{"parameters":[{"$ref":"` + ref + `"}],"responses":{}}}}}`
	}
	for name, tc := range map[string]struct{ text, want string }{
		"not JSON":             {`{`, "unexpected end"},
		"another version":      {`{"openapi":"3.0.0","paths":{}}`, `swagger: "": want 2.0`},
		"a missing definition": {item("#/definitions/none"), `definition "none" is referred to and missing`},
		"a missing parameter":  {item("#/parameters/none"), `parameter "none" is referred to and missing`},
		"not a path item":      {`{"swagger":"2.0","paths":{"/apis/other.example.com/v1/things":{"get":7}}}`, "responses"},
	} {
		t.Run(name, func(t *testing.T) {
			o := New("v1")
			if err := o.SetExtraV2(path, []byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %s", err, tc.want)
			}
			if len(o.view().remotes) != 0 {
				t.Error("it was taken")
			}
		})
	}
}

// A server that has no v3 document is described in v3 by what it says in v2, until it
// has one.
//
// Covers: api.openapi, api.aggregation
func TestOtherServersWithoutV3(t *testing.T) {
	const path = "apis/other.example.com/v1"
	o := everything()
	here := part(decoded(t, served(t, o.ServeV2, "/openapi/v2", "application/json").Body.Bytes()), "definitions", versionInfo)
	set := func(text []byte) {
		t.Helper()
		if err := o.SetExtraV2(path, text); err != nil {
			t.Fatal(err)
		}
	}
	get := func() (int, object) {
		w := served(t, o.ServeV3, "/openapi/v3/"+path, "application/json")
		return w.Code, decoded(t, w.Body.Bytes())
	}
	for _, form := range []string{"one form", "another form"} {
		set(otherDocument(t, "v1", form, here))
		code, doc := get()
		if got := part(doc, "components", "schemas", objectMeta)["description"]; code != 200 || got != form {
			t.Errorf("%d, ObjectMeta is described as %v, want %s", code, got, form)
		}
		ref := part(doc, "paths", "/apis/other.example.com/v1/things", "get", "responses", "200")
		if text := fmt.Sprint(ref); !strings.Contains(text, "#/components/schemas/com.example.other.v1.Thing") {
			t.Errorf("things are %s", text)
		}
		if w := served(t, o.ServeV3, "/openapi/v3/"+path, wantV3); w.Code != 200 {
			t.Errorf("its protobuf form: %d %s", w.Code, w.Body)
		}
	}
	o.SetExtra(path, []byte(`{"openapi":"3.0.0","info":{"title":"its own"}}`))
	set(otherDocument(t, "v1", "a third form", here))
	if _, doc := get(); part(doc, "info")["title"] != "its own" {
		t.Errorf("its own document gives way to %v", doc["info"])
	}
	o.SetExtra(path, nil)
	set(nil)
	if code, _ := get(); code != 404 {
		t.Errorf("code %d after its end", code)
	}
}
