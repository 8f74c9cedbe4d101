package customresource

import (
	"crypto/x509"
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// nonStructural is the condition of a definition whose schemas leave open what its
// objects look like; nil when they do not.
func nonStructural(crd *v1.CustomResourceDefinition) *v1.CustomResourceDefinitionCondition {
	var errs field.ErrorList
	if crd.Spec.PreserveUnknownFields {
		errs = append(errs, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "must be false"))
	}
	for i := range crd.Spec.Versions {
		v := &crd.Spec.Versions[i]
		in, err := internalSchema(v)
		if in == nil || err != nil {
			continue
		}
		s, err := structural.NewStructural(in)
		if err != nil {
			return &v1.CustomResourceDefinitionCondition{
				Type: v1.NonStructuralSchema, Status: v1.ConditionUnknown, Reason: "StructuralError",
				Message: fmt.Sprintf("failed to check validation schema for version %s: %v", v.Name, err),
			}
		}
		errs = append(errs, structural.ValidateStructural(field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema"), s)...)
	}
	if len(errs) == 0 {
		return nil
	}
	return &v1.CustomResourceDefinitionCondition{
		Type: v1.NonStructuralSchema, Status: v1.ConditionTrue, Reason: "Violations", Message: errs.ToAggregate().Error(),
	}
}

// approval is the condition of a definition in one of Kubernetes' own groups; nil
// in others.
func approval(crd *v1.CustomResourceDefinition) *v1.CustomResourceDefinitionCondition {
	if !apihelpers.IsProtectedCommunityGroup(crd.Spec.Group) {
		return nil
	}
	c := &v1.CustomResourceDefinitionCondition{Type: v1.KubernetesAPIApprovalPolicyConformant}
	state, text := apihelpers.GetAPIApprovalState(crd.Annotations)
	c.Message = text
	switch state {
	case apihelpers.APIApprovalInvalid:
		c.Status, c.Reason = v1.ConditionFalse, "InvalidAnnotation"
	case apihelpers.APIApprovalMissing:
		c.Status, c.Reason = v1.ConditionFalse, "MissingAnnotation"
	case apihelpers.APIApproved:
		c.Status, c.Reason = v1.ConditionTrue, "ApprovedAnnotation"
	case apihelpers.APIApprovalBypassed:
		c.Status, c.Reason = v1.ConditionFalse, "UnapprovedAnnotation"
	default:
		c.Status, c.Reason = v1.ConditionUnknown, "UnknownAnnotation"
	}
	return c
}

// establishment is what the definition's Established becomes once it is served.
func establishment(crd *v1.CustomResourceDefinition) v1.CustomResourceDefinitionCondition {
	if c := crd.Spec.Conversion; c != nil && c.Webhook != nil && c.Webhook.ClientConfig != nil {
		if ca := c.Webhook.ClientConfig.CABundle; len(ca) > 0 && !x509.NewCertPool().AppendCertsFromPEM(ca) {
			return v1.CustomResourceDefinitionCondition{
				Type: v1.Established, Status: v1.ConditionFalse, Reason: "InvalidCABundle", Message: "The conversion webhook CABundle is invalid",
			}
		}
	}
	return v1.CustomResourceDefinitionCondition{
		Type: v1.Established, Status: v1.ConditionTrue, Reason: "InitialNamesAccepted", Message: "the initial names have been accepted",
	}
}

// settle brings a definition's status up to what its spec asks for, but for its
// being served. It tells whether anything changed, and whether names did.
func settle(crd *v1.CustomResourceDefinition, taken func() claimed) (changed, renamed bool) {
	set := func(c v1.CustomResourceDefinitionCondition) {
		if !apihelpers.IsCRDConditionEquivalent(&c, apihelpers.FindCRDCondition(crd, c.Type)) {
			apihelpers.SetCRDCondition(crd, c)
			changed = true
		}
	}
	if c := nonStructural(crd); c != nil {
		set(*c)
	} else if apihelpers.FindCRDCondition(crd, v1.NonStructuralSchema) != nil {
		apihelpers.RemoveCRDCondition(crd, v1.NonStructuralSchema)
		changed = true
	}
	if c := approval(crd); c != nil {
		set(*c)
	}
	if named(crd) && apihelpers.FindCRDCondition(crd, v1.NamesAccepted) != nil && apihelpers.IsCRDConditionTrue(crd, v1.NamesAccepted) {
		return changed, false
	}
	n := nameIt(crd, taken())
	if !namesEqual(n.names, crd.Status.AcceptedNames) {
		crd.Status.AcceptedNames = n.names
		changed, renamed = true, true
	}
	set(n.accepted)
	set(n.established)
	return changed, renamed
}
