package audit

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Covers: api.audit
func TestPolicyIsChecked(t *testing.T) {
	for name, tc := range map[string]struct{ rules, want string }{
		"paths and groups":    {"rules: [{level: None, nonResourceURLs: ['*', '/a*', '/b']}, {level: Metadata, resources: [{group: '*'}, {group: apps, resources: [x], resourceNames: [y]}]}]", ""},
		"no level":            {"rules: [{users: [a]}]", "rules[0].level: Required value"},
		"another level":       {"rules: [{level: Some}]", `rules[0].level: Unsupported value: "Some": supported values: "None", "Metadata", "Request", "RequestResponse"`},
		"another stage":       {"omitStages: [Begin]\nrules: [{level: None}]", `omitStages[0]: Invalid value: "Begin": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic`},
		"of a rule":           {"rules: [{level: None, omitStages: [Panic, End]}]", `rules[0].omitStages[1]: Invalid value: "End": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic`},
		"no slash":            {"rules: [{level: None, nonResourceURLs: [a]}]", `rules[0].nonResourceURLs[0]: Invalid value: "a": non-resource URL rules must begin with a '/' character`},
		"a star within":       {"rules: [{level: None, nonResourceURLs: ['/a*b']}]", `rules[0].nonResourceURLs[0]: Invalid value: "/a*b": non-resource URL wildcards '*' must be the final character of the rule`},
		"names of anything":   {"rules: [{level: None, resources: [{group: '', resourceNames: [a]}]}]", `rules[0].resources.resourceNames: Invalid value: ["a"]: using resourceNames requires at least one resource`},
		"paths and resources": {"rules: [{level: None, namespaces: [a], nonResourceURLs: [/x]}]", `rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs`},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if _, err := ParsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n" + tc.rules)); err != nil {
				got = err.Error()
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
