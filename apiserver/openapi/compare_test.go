package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"skiff/apiserver/resources/builtin"
)

// specDir holds the published documents; it is not part of the project.
const specDir = "../../../shared/spec/openapi"

func everything() *OpenAPI {
	o := New("unversioned")
	all := builtin.Resources()
	served := make([]Served, len(all))
	for i := range all {
		served[i].Resource = &all[i]
		for j := range all[i].Versions {
			served[i].Versions = append(served[i].Versions, all[i].Versions[j].Name)
		}
	}
	o.Set(served)
	return o
}

// published counts the enumerations, which servers publish and the documents leave out.
var published int

// diff lists where two documents differ, but for descriptions and enumerations.
func diff(at string, got, want any, out *[]string) {
	g, gok := got.(map[string]any)
	w, wok := want.(map[string]any)
	if gok && wok {
		names := map[string]bool{}
		for k := range g {
			names[k] = true
		}
		for k := range w {
			names[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(names)) {
			if _, text := w[k].(string); k == "description" && (text || w[k] == nil) {
				continue
			}
			if _, values := g[k].([]any); k == "enum" && values && w[k] == nil {
				published++
				continue
			}
			switch {
			case g[k] == nil && w[k] != nil:
				*out = append(*out, fmt.Sprintf("%s/%s: missing, want %s", at, k, short(w[k])))
			case w[k] == nil && g[k] != nil:
				*out = append(*out, fmt.Sprintf("%s/%s: not published, got %s", at, k, short(g[k])))
			default:
				diff(at+"/"+k, g[k], w[k], out)
			}
		}
		return
	}
	if strings.HasSuffix(at, "/required") {
		got, want = sortedStrings(got), sortedStrings(want)
	}
	gl, glok := got.([]any)
	wl, wlok := want.([]any)
	if glok && wlok && len(gl) == len(wl) {
		for i := range gl {
			diff(fmt.Sprintf("%s[%d]", at, i), gl[i], wl[i], out)
		}
		return
	}
	if !reflect.DeepEqual(got, want) {
		*out = append(*out, fmt.Sprintf("%s: got %s, want %s", at, short(got), short(want)))
	}
}

func sortedStrings(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return list
}

func short(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(b) > 120 {
		return string(b[:120]) + "…"
	}
	return string(b)
}

// TestPublishedV3 compares with the documents that upstream publishes.
//
// Covers: api.openapi
func TestPublishedV3(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(specDir, "v3", "*.json"))
	if err != nil || len(files) == 0 {
		t.Skip("the published documents are not here")
	}
	o := everything()
	published = 0
	schemaDiffs, pathDiffs := 0, 0
	for _, file := range files {
		path := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), "_openapi.json"), "__", "/")
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]any
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		doc, err := o.view().v3(path, false)
		if err != nil {
			t.Logf("%s: not served", path)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(doc, &got); err != nil {
			t.Fatal(err)
		}
		var schemas, paths []string
		diff(path+" schemas", part(got, "components", "schemas"), part(want, "components", "schemas"), &schemas)
		diff(path+" paths", got["paths"], want["paths"], &paths)
		paths = slices.DeleteFunc(paths, newer)
		for _, l := range append(slices.Clone(schemas), paths...) {
			t.Log(l)
		}
		schemaDiffs += len(schemas)
		pathDiffs += len(paths)
	}
	t.Logf("%d differences in schemas, %d in paths, %d enumerations", schemaDiffs, pathDiffs, published)
	// The types are a little newer than the published documents: schemas may
	// have fields more. Paths may not differ.
	if pathDiffs > 0 {
		t.Errorf("%d differences in paths; they are listed above", pathDiffs)
	}
}

// newer are paths that v1.37.2 has and the documents, of an earlier build, have not.
func newer(line string) bool {
	return strings.Contains(line, "not published") && (strings.Contains(line, "/podcertificaterequests") || strings.Contains(line, "/csinodes/{name}/status"))
}

func part(doc map[string]any, names ...string) map[string]any {
	for _, n := range names {
		doc, _ = doc[n].(map[string]any)
	}
	return doc
}

// TestPublishedV2 does the same for v2, with its shared parameters put in place.
//
// Covers: api.openapi
func TestPublishedV2(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(specDir, "v2.json"))
	if err != nil {
		t.Skip("the published document is not here")
	}
	var want, got map[string]any
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	o := everything()
	text := served(t, o.ServeV2, "/openapi/v2", "application/json").Body.Bytes()
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	published = 0
	var out []string
	diff("definitions", part(got, "definitions"), part(want, "definitions"), &out)
	diff("paths", resolve(got["paths"], got), resolve(want["paths"], want), &out)
	for _, l := range out {
		t.Log(l)
	}
	t.Logf("%d differences, %d enumerations; %d bytes of JSON", len(out), published, len(text))
}

func resolve(v any, doc map[string]any) any {
	switch x := v.(type) {
	case map[string]any:
		if ref, ok := x["$ref"].(string); ok {
			if name, ok := strings.CutPrefix(ref, "#/parameters/"); ok {
				return part(doc, "parameters")[name]
			}
		}
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = resolve(e, doc)
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = resolve(e, doc)
		}
		return out
	}
	return v
}
