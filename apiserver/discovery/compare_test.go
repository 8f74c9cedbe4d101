package discovery

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"skiff/apiserver/resources/builtin"
)

// specDir holds what upstream publishes with every API on; it is not part of
// the project.
const specDir = "../../../shared/spec/discovery"

func everything() *Discovery {
	d := New(builtin.GroupOrder())
	all := builtin.Resources()
	served := make([]Served, len(all))
	for i := range all {
		served[i].Resource = &all[i]
		for j := range all[i].Versions {
			served[i].Versions = append(served[i].Versions, all[i].Versions[j].Name)
		}
	}
	d.Set(served, nil)
	return d
}

func fetch(t *testing.T, d *Discovery, path, accept string) any {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	var v any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%s: %v in %.200s", path, err, w.Body)
	}
	return v
}

// diff lists where two documents differ. Lists of named things are compared by name.
func diff(at string, got, want any, out *[]string) {
	if g, ok := got.(map[string]any); ok {
		if w, ok := want.(map[string]any); ok {
			keys := maps.Clone(g)
			maps.Copy(keys, w)
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				switch {
				case k == "serverAddress" || k == "creationTimestamp" && (g[k] == nil || w[k] == nil):
				case w[k] == nil && g[k] != nil:
					*out = append(*out, fmt.Sprintf("%s.%s: got %v, want nothing", at, k, g[k]))
				case g[k] == nil && w[k] != nil:
					*out = append(*out, fmt.Sprintf("%s.%s: missing, want %v", at, k, w[k]))
				default:
					diff(at+"."+k, g[k], w[k], out)
				}
			}
			return
		}
	}
	if g, gn := named(got); gn {
		if w, wn := named(want); wn {
			diff(at, g, w, out)
			return
		}
	}
	if !reflect.DeepEqual(got, want) {
		*out = append(*out, fmt.Sprintf("%s: got %v, want %v", at, got, want))
	}
}

// named turns a list of objects with a name of some sort into a map of them.
func named(v any) (any, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	out := map[string]any{}
	for _, e := range list {
		o, ok := e.(map[string]any)
		if !ok {
			return nil, false
		}
		key := ""
		for _, k := range []string{"name", "resource", "subresource", "version", "groupVersion"} {
			if s, ok := o[k].(string); ok && key == "" {
				key = s
			}
		}
		if m, ok := o["metadata"].(map[string]any); ok && key == "" {
			key, _ = m["name"].(string)
		}
		if key == "" {
			return nil, false
		}
		out[key] = e
	}
	return out, true
}

// TestPublished compares every document with upstream's.
//
// Covers: api.discovery
func TestPublished(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(specDir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Skip("the published documents are not here")
	}
	d := everything()
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var want any
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		path, accept := "/"+strings.ReplaceAll(name, "__", "/"), "application/json"
		if name == "aggregated_v2" {
			path, accept = "/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
		}
		var out []string
		diff(path, fetch(t, d, path, accept), want, &out)
		for _, l := range out {
			if stored(l) || newer(l) || strings.Contains(l, "serverAddressByClientCIDRs") {
				t.Log(l)
				continue
			}
			t.Error(l)
		}
	}
}

// newer are what v1.37.2 serves and the documents, of an earlier build, have not.
func newer(line string) bool {
	return strings.HasSuffix(line, "want nothing") && (strings.Contains(line, "podcertificaterequests") || strings.Contains(line, ".csinodes"))
}

// stored are the kinds that upstream stores in an older version than ours, so
// that their hashes differ.
func stored(line string) bool {
	if !strings.Contains(line, "storageVersionHash") {
		return false
	}
	for _, plural := range []string{"customresourcedefinitions", "clustertrustbundles", "devicetaintrules", "storageversionmigrations"} {
		if strings.Contains(line, "."+plural+".") {
			return true
		}
	}
	return false
}
