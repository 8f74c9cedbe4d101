package customresource

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

func names(plural, singular, kind string, short ...string) v1.CustomResourceDefinitionNames {
	return v1.CustomResourceDefinitionNames{Plural: plural, Singular: singular, Kind: kind, ListKind: kind + "List", ShortNames: short}
}

func TestNameIt(t *testing.T) {
	for _, c := range []struct {
		name        string
		want, own   v1.CustomResourceDefinitionNames
		others      []v1.CustomResourceDefinitionNames
		established v1.ConditionStatus
		names       v1.CustomResourceDefinitionNames
		reason      string
		message     string
		becomes     string
	}{
		{
			name: "free", want: names("as", "a", "A", "x"), names: names("as", "a", "A", "x"),
			reason: "NoConflicts", message: "no conflicts found", becomes: "Installing",
		},
		{
			name: "own names are no conflict", want: names("as", "a", "A"), own: names("as", "a", "A"),
			others: []v1.CustomResourceDefinitionNames{names("as", "a", "A")}, names: names("as", "a", "A"),
			reason: "NoConflicts", message: "no conflicts found", becomes: "Installing",
		},
		{
			name: "a taken plural leaves the rest", want: names("as", "a", "A"), others: []v1.CustomResourceDefinitionNames{names("as", "b", "B")},
			names: names("", "a", "A"), reason: "PluralConflict", message: `"as" is already in use`, becomes: "NotAccepted",
		},
		{
			name: "short names come together or not at all", want: names("as", "a", "A", "x", "y", "z"),
			others: []v1.CustomResourceDefinitionNames{names("bs", "b", "B", "x", "z")}, names: names("as", "a", "A"),
			reason: "ShortNamesConflict", message: `["x" is already in use, "z" is already in use]`, becomes: "NotAccepted",
		},
		{
			name: "an established definition stays so", want: names("as", "a", "B"), own: names("as", "a", "A"), established: v1.ConditionTrue,
			others: []v1.CustomResourceDefinitionNames{names("bs", "b", "B")}, names: names("as", "a", "A"),
			reason: "ListKindConflict", message: `"BList" is already in use`, becomes: "Was",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			crd := &v1.CustomResourceDefinition{}
			crd.Spec.Group, crd.Spec.Names, crd.Status.AcceptedNames = "g", c.want, c.own
			if c.established != "" {
				crd.Status.Conditions = []v1.CustomResourceDefinitionCondition{{Type: v1.Established, Status: c.established, Reason: "Was"}}
			}
			var all []*v1.CustomResourceDefinition
			for _, n := range c.others {
				o := &v1.CustomResourceDefinition{}
				o.Spec.Group, o.Status.AcceptedNames = "g", n
				all = append(all, o)
			}
			foreign := &v1.CustomResourceDefinition{}
			foreign.Spec.Group, foreign.Status.AcceptedNames = "other", c.want
			got := nameIt(crd, claimedIn("g", append(all, foreign)))
			if diff := cmp.Diff(c.names, got.names); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{c.reason, c.message, c.becomes}, []string{got.accepted.Reason, got.accepted.Message, got.established.Reason}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCells(t *testing.T) {
	for _, c := range []struct {
		kind        string
		value, want any
	}{
		{"integer", 2.9, int64(2)}, {"integer", "2", nil}, {"number", int64(2), 2.0}, {"boolean", true, true},
		{"boolean", "true", nil}, {"date", "yesterday", "<invalid>"}, {"date", int64(1), nil},
	} {
		if got := cellOf(c.kind, c.value); got != c.want {
			t.Errorf("%s of %v: got %v, want %v", c.kind, c.value, got, c.want)
		}
	}
}
