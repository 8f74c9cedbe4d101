package apiextensions

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

func parse(t *testing.T, text string) *crd {
	t.Helper()
	o := &crd{}
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	defaults(o)
	o.Status.StoredVersions = []string{"v1"}
	return o
}

const good = `
metadata: {name: as.example.com, resourceVersion: "1"}
spec:
  group: example.com
  scope: Cluster
  names: {plural: as, kind: A}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
`

func texts(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		want           []string
	}{
		{name: "good"},
		{name: "name", old: "name: as.example.com", new: "name: bs.example.com",
			want: []string{`metadata.name: Invalid value: "bs.example.com": must be spec.names.plural+"."+spec.group`}},
		{name: "structural", old: "{type: object}", new: "{type: object, properties: {x: {}}}",
			want: []string{`spec.validation.openAPIV3Schema.properties[x].type: Required value: must not be empty for specified object fields`}},
		{name: "default", old: "{type: object}", new: "{type: object, properties: {x: {type: integer, default: a}}}",
			want: []string{`spec.validation.openAPIV3Schema.properties[x].default: Invalid value: "string":  in body must be of type integer: "string"`}},
		{name: "rule", old: "{type: object}", new: "{type: object, properties: {x: {type: integer, x-kubernetes-validations: [{rule: self.y > 1}]}}}",
			want: []string{"spec.validation.openAPIV3Schema.properties[x].x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.y \\u003e 1\""}},
		{name: "a community group", old: "group: example.com", new: "group: x.k8s.io",
			want: []string{`metadata.name: Invalid value: "as.example.com"`, `metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := texts(validate(t.Context(), parse(t, strings.Replace(good, c.old, c.new, 1))))
			if len(got) != len(c.want) {
				t.Fatalf("got %q", got)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) {
					t.Errorf("got %q", got[i])
				}
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	old := parse(t, good)
	old.Status.Conditions = []v1.CustomResourceDefinitionCondition{{Type: v1.Established, Status: v1.ConditionTrue}}
	next := old.DeepCopy()
	next.Spec.Scope = v1.NamespaceScoped
	next.Spec.Versions[0].Name = "v2"
	addStored(next)
	want := []string{
		`spec.scope: Invalid value: "Namespaced": field is immutable`,
		`status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions`,
	}
	if diff := cmp.Diff(want, texts(validateUpdate(t.Context(), next, old))); diff != "" {
		t.Error(diff)
	}
}

func TestHoldBack(t *testing.T) {
	o := parse(t, good)
	if holdBack(t.Context(), o, nil) {
		t.Error("it ends gracefully")
	}
	if diff := cmp.Diff([]string{v1.CustomResourceCleanupFinalizer}, o.Finalizers); diff != "" {
		t.Error(diff)
	}
	if c := o.Status.Conditions; len(c) != 1 || c[0].Type != v1.Terminating || c[0].Reason != "InstanceDeletionPending" {
		t.Errorf("conditions %v", c)
	}
}

func TestStoredVersions(t *testing.T) {
	o := parse(t, good)
	o.Spec.Versions = append(o.Spec.Versions, v1.CustomResourceDefinitionVersion{Name: "v2", Storage: true})
	o.Status.StoredVersions = nil
	defaults(o)
	if diff := cmp.Diff([]string{"v1"}, o.Status.StoredVersions); diff != "" {
		t.Error(diff)
	}
}

func TestRow(t *testing.T) {
	o := parse(t, good)
	o.Spec.Names.ShortNames = []string{"x", "y"}
	o.Spec.Versions = append(o.Spec.Versions, v1.CustomResourceDefinitionVersion{Name: "v0", Served: true}, v1.CustomResourceDefinitionVersion{Name: "v3"})
	o.Status.Conditions = []v1.CustomResourceDefinitionCondition{{Type: v1.Established, Status: v1.ConditionTrue}}
	got := row(o)
	want := []any{"as.example.com", "Cluster", "v0,v1(storage)", got[3], "example.com", "A", "x,y", true}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != len(columns()) {
		t.Error(diff)
	}
}
