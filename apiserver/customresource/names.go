package customresource

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// claimed are the names that the definitions of a group have been given.
type claimed struct{ resources, kinds map[string]bool }

func claimedIn(group string, all []*v1.CustomResourceDefinition) claimed {
	c := claimed{map[string]bool{}, map[string]bool{}}
	for _, crd := range all {
		if crd.Spec.Group != group {
			continue
		}
		n := crd.Status.AcceptedNames
		for _, name := range append([]string{n.Plural, n.Singular}, n.ShortNames...) {
			c.resources[name] = true
		}
		c.kinds[n.Kind], c.kinds[n.ListKind] = true, true
	}
	return c
}

var errNamed = errors.New("already in use")

func free(wanted, own string, taken map[string]bool) error {
	if wanted == own || !taken[wanted] {
		return nil
	}
	return fmt.Errorf("%q is %w", wanted, errNamed)
}

// naming is what becomes of the names that a definition wants.
type naming struct {
	names                 v1.CustomResourceDefinitionNames
	accepted, established v1.CustomResourceDefinitionCondition
}

// nameIt gives a definition the names that are free. Of those that are not it
// keeps the ones it had.
func nameIt(crd *v1.CustomResourceDefinition, taken claimed) naming {
	want, own := crd.Spec.Names, crd.Status.AcceptedNames
	n := naming{names: own, accepted: v1.CustomResourceDefinitionCondition{
		Type: v1.NamesAccepted, Status: v1.ConditionTrue, Reason: "NoConflicts", Message: "no conflicts found",
	}}
	claim := func(reason string, err error, take func()) {
		if err == nil {
			take()
			return
		}
		n.accepted.Status, n.accepted.Reason, n.accepted.Message = v1.ConditionFalse, reason, err.Error()
	}
	claim("PluralConflict", free(want.Plural, own.Plural, taken.resources), func() { n.names.Plural = want.Plural })
	claim("SingularConflict", free(want.Singular, own.Singular, taken.resources), func() { n.names.Singular = want.Singular })
	var short []error
	for _, name := range want.ShortNames {
		if !slices.Contains(own.ShortNames, name) {
			short = append(short, free(name, "", taken.resources))
		}
	}
	var shortErr error
	if agg := utilerrors.NewAggregate(short); agg != nil {
		shortErr = agg
	}
	claim("ShortNamesConflict", shortErr, func() { n.names.ShortNames = want.ShortNames })
	claim("KindConflict", free(want.Kind, own.Kind, taken.kinds), func() { n.names.Kind = want.Kind })
	claim("ListKindConflict", free(want.ListKind, own.ListKind, taken.kinds), func() { n.names.ListKind = want.ListKind })
	n.names.Categories = want.Categories

	n.established = v1.CustomResourceDefinitionCondition{Type: v1.Established, Status: v1.ConditionFalse, Reason: "NotAccepted", Message: "not all names are accepted"}
	if old := apihelpers.FindCRDCondition(crd, v1.Established); old != nil {
		n.established = *old
	}
	if n.established.Status != v1.ConditionTrue && n.accepted.Status == v1.ConditionTrue {
		n.established = v1.CustomResourceDefinitionCondition{
			Type: v1.Established, Status: v1.ConditionFalse, Reason: "Installing", Message: "the initial names have been accepted",
		}
	}
	return n
}

// named tells whether the definition has the names that it wants.
func named(crd *v1.CustomResourceDefinition) bool {
	return equality.Semantic.DeepEqual(crd.Spec.Names, crd.Status.AcceptedNames)
}
