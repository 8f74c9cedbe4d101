package bootstrap

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testdata/defaults.txt is what kube-apiserver v1.37.2 makes of a fresh cluster's
// roles, bindings and flow schemas: a line for each object and, indented, one for
// each rule (groups, resources or paths, verbs, names).

// Covers: api.fresh-cluster
func TestDefaultsAreUpstreams(t *testing.T) {
	want, err := os.ReadFile("testdata/defaults.txt")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	roles := clusterRoles()
	byName(roles)
	for _, r := range roles {
		describeRole(&b, "ClusterRole", r, r.Rules, r.AggregationRule)
	}
	inNamespaces := namespacedRoles()
	byName(inNamespaces)
	for _, r := range inNamespaces {
		describeRole(&b, "Role", r, r.Rules, nil)
	}
	bindings := clusterRoleBindings()
	byName(bindings)
	for _, r := range bindings {
		describeBinding(&b, "ClusterRoleBinding", r, r.RoleRef, r.Subjects)
	}
	bound := namespacedBindings()
	byName(bound)
	for _, r := range bound {
		describeBinding(&b, "RoleBinding", r, r.RoleRef, r.Subjects)
	}
	schemas := flowSchemas()
	byName(schemas)
	for _, s := range schemas {
		spec, err := json.Marshal(s.Spec)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "FlowSchema %s %s\n", s.Name, spec)
	}
	if diff := gocmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")); diff != "" {
		t.Errorf("the defaults differ from upstream's (-want +got):\n%s", diff)
	}
}

func byName[T metav1.Object](list []T) {
	slices.SortFunc(list, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
}

// foreign leaves out skiff's own objects, which docs/api-coverage.md lists.
func foreign(o metav1.Object) (string, bool) {
	name := o.GetName()
	if ns := o.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return name, !strings.HasPrefix(o.GetName(), "skiff:")
}

func describeRole(b *strings.Builder, kind string, o metav1.Object, rules []rbacv1.PolicyRule, aggregation *rbacv1.AggregationRule) {
	name, ok := foreign(o)
	if !ok {
		return
	}
	var labels []string
	for k, v := range o.GetLabels() {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	fmt.Fprintf(b, "%s %s %s\n", kind, name, strings.Join(labels, " "))
	if aggregation != nil {
		for _, s := range aggregation.ClusterRoleSelectors {
			for k := range s.MatchLabels {
				fmt.Fprintf(b, "  of %s\n", k)
			}
		}
	}
	for _, r := range rules {
		groups := strings.Join(r.APIGroups, ",")
		if groups == "" {
			groups = `""`
		}
		line := fmt.Sprintf("  %s %s %s", groups, strings.Join(append(slices.Clone(r.Resources), r.NonResourceURLs...), ","), strings.Join(r.Verbs, ","))
		if len(r.ResourceNames) > 0 {
			line += " " + strings.Join(r.ResourceNames, ",")
		}
		fmt.Fprintln(b, line)
	}
}

func describeBinding(b *strings.Builder, kind string, o metav1.Object, role rbacv1.RoleRef, subjects []rbacv1.Subject) {
	name, ok := foreign(o)
	if !ok {
		return
	}
	var who []string
	for _, s := range subjects {
		who = append(who, s.Kind+":"+s.Namespace+":"+s.Name)
	}
	fmt.Fprintf(b, "%s %s %s/%s %s\n", kind, name, role.Kind, role.Name, strings.Join(who, ","))
}
