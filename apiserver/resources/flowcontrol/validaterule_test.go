package flowcontrol

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func texts(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

func TestResourceRule(t *testing.T) {
	one := []string{"x"}
	for _, tc := range []struct {
		name string
		rule v1.ResourcePolicyRule
		want []string
	}{
		{"of everything", v1.ResourcePolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, Namespaces: []string{"*"}, ClusterScope: true}, nil},
		{"of the cluster", v1.ResourcePolicyRule{Verbs: []string{"get", "deletecollection"}, APIGroups: one, Resources: one, ClusterScope: true}, nil},
		{"all and more", v1.ResourcePolicyRule{Verbs: []string{"*", "get"}, APIGroups: []string{"", "*"}, Resources: []string{"*", "x"}, Namespaces: []string{"*", "x"}}, []string{
			`r.verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs`,
			`r.apiGroups: Invalid value: ["","*"]: if '*' is present, must not specify other api groups`,
			`r.resources: Invalid value: ["*","x"]: if '*' is present, must not specify other resources`,
			`r.namespaces: Invalid value: ["*","x"]: if '*' is present, must not specify other namespaces`,
		}},
		{"nothing", v1.ResourcePolicyRule{}, []string{
			"r.verbs: Required value: verbs must contain at least one value",
			"r.apiGroups: Required value: resource rules must supply at least one api group",
			"r.resources: Required value: resource rules must supply at least one resource",
			"r.namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
		}},
		{"an unknown verb", v1.ResourcePolicyRule{Verbs: []string{"head"}, APIGroups: one, Resources: one, Namespaces: one}, []string{
			`r.verbs: Unsupported value: ["head"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, texts(resourceRule(&tc.rule, field.NewPath("r")))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestURL(t *testing.T) {
	for _, tc := range []struct{ name, path, want string }{
		{"the root", "/", ""},
		{"a path", "/healthz", ""},
		{"all below", "/apis/*", ""},
		{"nothing", "", "must not be empty"},
		{"no slash", "healthz", "must start with slash"},
		{"a blank", "/a b", "must not contain white-space"},
		{"two slashes", "/a//b", "must not contain double slash"},
		{"a part of a name", "/a*", "wildcard can only do suffix matching"},
		{"two stars", "/*/*", "wildcard can only do suffix matching"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := refusedURL(tc.path); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
