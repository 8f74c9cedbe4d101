package handlers_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMetadataRules changes metadata as kinds allow it: some look at names again on
// update, and those of others are any segment of a path.
//
// Covers: api.validation
func TestMetadataRules(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"m"}}`)
	s.must(http.StatusCreated, "POST", deploys, deployBody)
	const unqualified = `name is neither a standard finalizer name nor is it fully qualified`
	for _, tc := range []struct {
		name, verb, path, metadata string
		code                       int
		want                       []string
	}{
		{"a finalizer of nobody", "POST", maps, `"name":"x","finalizers":["a"]`, 422, []string{`metadata.finalizers[0]: Invalid value: "a": ` + unqualified}},
		{"a finalizer of nobody, later", "PUT", maps + "/m", `"name":"m","finalizers":["a"]`, 422, []string{`metadata.finalizers[0]: Invalid value: "a": ` + unqualified}},
		{"finalizers of Kubernetes", "POST", maps + "?dryRun=All", `"name":"x","finalizers":["orphan","kubernetes","a.b/c"]`, 201, nil},
		{"a prefix of names, later", "PUT", maps + "/m", `"name":"m","generateName":"A"`, 422, []string{`metadata.generateName: Invalid value: "A": a lowercase RFC 1123 subdomain`}},
		{"a prefix of names, with a slash", "PUT", maps + "/m", `"name":"m","generateName":"a/"`, 422, []string{`metadata.generateName: Invalid value: "a/": may not contain '/'`, `metadata.generateName: Invalid value: "a/": a lowercase RFC 1123 subdomain`}},
		{"a label, told once", "PUT", maps + "/m", `"name":"m","labels":{"a b":"c"}`, 422, []string{`metadata.labels: Invalid value: "a b": name part must consist of`}},
		{"a generation", "POST", maps, `"name":"x","generation":-1`, 422, []string{`metadata.generation: Invalid value: -1: must be greater than or equal to 0`}},
		{"a version that was read, dry", "POST", maps + "?dryRun=All", `"name":"x","resourceVersion":"7"`, 201, nil},
		{"a version that was read", "POST", maps, `"name":"x","resourceVersion":"7"`, 500, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.call(tc.verb, tc.path, `{"metadata":{`+tc.metadata+`}}`)
			if a.code != tc.code {
				t.Fatalf("code %d, want %d: %s", a.code, tc.code, a.body)
			}
			var got []string
			if tc.code == http.StatusUnprocessableEntity {
				for _, c := range a.status(t).Details.Causes {
					got = append(got, c.Field+": "+c.Message)
				}
			}
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(want, got string) bool { return strings.HasPrefix(got, want) || strings.HasPrefix(want, got) })); diff != "" {
				t.Errorf("causes (-want +got):\n%s", diff)
			}
		})
	}
	later := strings.Replace(deployBody, `"name":"d"`, `"name":"d","generateName":"A"`, 1)
	s.must(http.StatusOK, "PUT", deploys+"/d?dryRun=All", later)
}
