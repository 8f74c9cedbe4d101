package admissionregistration

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/admissionregistration/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var specPath = field.NewPath("spec")

func validatePolicy(o *v1.ValidatingAdmissionPolicy) field.ErrorList {
	s := &o.Spec
	errs := policyFrame(s.FailurePolicy, s.ParamKind, s.MatchConstraints)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		for _, name := range []string{"validations", "auditAnnotations"} {
			errs = append(errs, field.Required(specPath.Child(name), "validations or auditAnnotations must contain at least one item"))
		}
	}
	for i, v := range s.Validations {
		at := specPath.Child("validations").Index(i)
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
		}
		if v.Message != "" && strings.TrimSpace(v.Message) == "" {
			errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must be non-empty if specified"))
		} else if strings.Contains(strings.TrimSpace(v.Message), "\n") {
			errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must not contain line breaks"))
		}
	}
	names := map[string]bool{}
	for i, v := range s.Variables {
		at := specPath.Child("variables").Index(i)
		switch {
		case v.Name == "":
			errs = append(errs, field.Required(at.Child("name"), "name is not specified"))
		case names[v.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		names[v.Name] = true
		if strings.TrimSpace(v.Expression) == "" {
			errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
		}
	}
	keys := map[string]bool{}
	for i, a := range s.AuditAnnotations {
		at := specPath.Child("auditAnnotations").Index(i)
		if a.Key == "" {
			errs = append(errs, field.Required(at.Child("key"), ""))
		} else if keys[a.Key] {
			errs = append(errs, field.Duplicate(at.Child("key"), a.Key))
		}
		keys[a.Key] = true
		if strings.TrimSpace(a.ValueExpression) == "" {
			errs = append(errs, field.Required(at.Child("valueExpression"), "valueExpression is not specified"))
		}
	}
	return append(errs, matchConditions(s.MatchConditions)...)
}

func validateMutating(o *v1.MutatingAdmissionPolicy) field.ErrorList {
	s := &o.Spec
	errs := policyFrame(s.FailurePolicy, s.ParamKind, s.MatchConstraints)
	if len(s.Mutations) == 0 {
		errs = append(errs, field.Required(specPath.Child("mutations"), "mutations must contain at least one item"))
	}
	for i, m := range s.Mutations {
		at := specPath.Child("mutations").Index(i)
		switch m.PatchType {
		case v1.PatchTypeApplyConfiguration:
			if m.ApplyConfiguration == nil {
				errs = append(errs, field.Required(at.Child("applyConfiguration"), "must be specified when patchType is ApplyConfiguration"))
			}
		case v1.PatchTypeJSONPatch:
			if m.JSONPatch == nil {
				errs = append(errs, field.Required(at.Child("jsonPatch"), "must be specified when patchType is JSONPatch"))
			}
		case "":
			errs = append(errs, field.Required(at.Child("patchType"), ""))
		default:
			errs = append(errs, field.NotSupported(at.Child("patchType"), m.PatchType, []v1.PatchType{v1.PatchTypeApplyConfiguration, v1.PatchTypeJSONPatch}))
		}
	}
	return append(errs, matchConditions(s.MatchConditions)...)
}

// policyFrame is what policies of both kinds have.
func policyFrame(fail *v1.FailurePolicyType, param *v1.ParamKind, match *v1.MatchResources) field.ErrorList {
	var errs field.ErrorList
	if fail == nil {
		errs = append(errs, field.Required(specPath.Child("failurePolicy"), ""))
	} else if *fail != v1.Fail && *fail != v1.Ignore {
		errs = append(errs, field.NotSupported(specPath.Child("failurePolicy"), *fail, []v1.FailurePolicyType{v1.Fail, v1.Ignore}))
	}
	if param != nil {
		at := specPath.Child("paramKind")
		if param.APIVersion == "" {
			errs = append(errs, field.Required(at.Child("apiVersion"), ""))
		}
		if param.Kind == "" {
			errs = append(errs, field.Required(at.Child("kind"), ""))
		}
	}
	if match == nil {
		return append(errs, field.Required(specPath.Child("matchConstraints"), ""))
	}
	if len(match.ResourceRules) == 0 {
		errs = append(errs, field.Required(specPath.Child("matchConstraints", "resourceRules"), ""))
	}
	return append(errs, matchResources(match, specPath.Child("matchConstraints"))...)
}

func matchResources(m *v1.MatchResources, at *field.Path) field.ErrorList {
	errs := unversioned.ValidateLabelSelector(m.NamespaceSelector, unversioned.LabelSelectorValidationOptions{}, at.Child("namespaceSelector"))
	errs = append(errs, unversioned.ValidateLabelSelector(m.ObjectSelector, unversioned.LabelSelectorValidationOptions{}, at.Child("objectSelector"))...)
	for i := range m.ResourceRules {
		errs = append(errs, rule(&m.ResourceRules[i].RuleWithOperations, at.Child("resourceRules").Index(i))...)
	}
	for i := range m.ExcludeResourceRules {
		errs = append(errs, rule(&m.ExcludeResourceRules[i].RuleWithOperations, at.Child("excludeResourceRules").Index(i))...)
	}
	return errs
}

// rule is one of a webhook or of a policy.
func rule(r *v1.RuleWithOperations, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	whole := func(list []string, child, text string) {
		if len(list) == 0 {
			errs = append(errs, field.Required(at.Child(child), ""))
		}
		for _, v := range list {
			if v == "*" && len(list) > 1 {
				errs = append(errs, field.Invalid(at.Child(child), list, text))
				return
			}
		}
	}
	whole(r.APIGroups, "apiGroups", "if '*' is present, must not specify other API groups")
	whole(r.APIVersions, "apiVersions", "if '*' is present, must not specify other API versions")
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(at.Child("resources"), ""))
	}
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(at.Child("operations"), ""))
	}
	for i, op := range r.Operations {
		switch op {
		case v1.Create, v1.Update, v1.Delete, v1.Connect, v1.OperationAll:
			if op == v1.OperationAll && len(r.Operations) > 1 {
				errs = append(errs, field.Invalid(at.Child("operations"), r.Operations, "if '*' is present, must not specify other operations"))
			}
		default:
			errs = append(errs, field.NotSupported(at.Child("operations").Index(i), op, []v1.OperationType{v1.OperationAll, v1.Connect, v1.Create, v1.Delete, v1.Update}))
		}
	}
	if s := r.Scope; s != nil && *s != v1.ClusterScope && *s != v1.NamespacedScope && *s != v1.AllScopes {
		errs = append(errs, field.NotSupported(at.Child("scope"), *s, []v1.ScopeType{v1.AllScopes, v1.ClusterScope, v1.NamespacedScope}))
	}
	return errs
}

func matchConditions(list []v1.MatchCondition) field.ErrorList {
	at := specPath.Child("matchConditions")
	var errs field.ErrorList
	if len(list) > 64 {
		errs = append(errs, field.TooMany(at, len(list), 64))
	}
	names := map[string]bool{}
	for i, c := range list {
		at := at.Index(i)
		if strings.TrimSpace(c.Expression) == "" {
			errs = append(errs, field.Required(at.Child("expression"), ""))
		}
		if c.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		for _, msg := range validation.IsQualifiedName(c.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), c.Name, msg))
		}
		if names[c.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		}
		names[c.Name] = true
	}
	return errs
}

func validateBinding(o *v1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	errs := bindingFrame(o.Spec.PolicyName, o.Spec.ParamRef, o.Spec.MatchResources)
	at := specPath.Child("validationActions")
	if len(o.Spec.ValidationActions) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	seen := map[v1.ValidationAction]bool{}
	for i, a := range o.Spec.ValidationActions {
		if a != v1.Deny && a != v1.Warn && a != v1.Audit {
			errs = append(errs, field.NotSupported(at.Index(i), a, []v1.ValidationAction{v1.Audit, v1.Deny, v1.Warn}))
		}
		if seen[a] {
			errs = append(errs, field.Duplicate(at.Index(i), a))
		}
		seen[a] = true
	}
	if seen[v1.Deny] && seen[v1.Warn] {
		errs = append(errs, field.Invalid(at, o.Spec.ValidationActions, fmt.Sprintf("must not contain both %s and %s (repeating the same validation failure information in the API response and headers serves no purpose)", v1.Deny, v1.Warn)))
	}
	return errs
}

func bindingFrame(policy string, param *v1.ParamRef, match *v1.MatchResources) field.ErrorList {
	var errs field.ErrorList
	if policy == "" {
		errs = append(errs, field.Required(specPath.Child("policyName"), ""))
	}
	if param != nil {
		at := specPath.Child("paramRef")
		switch {
		case param.Name != "" && param.Selector != nil:
			errs = append(errs, field.Forbidden(at.Child("name"), "name and selector are mutually exclusive"))
		case param.Name == "" && param.Selector == nil:
			errs = append(errs, field.Required(at, "one of name or selector must be specified"))
		}
		if param.ParameterNotFoundAction == nil {
			errs = append(errs, field.Required(at.Child("parameterNotFoundAction"), ""))
		}
	}
	if match != nil {
		errs = append(errs, matchResources(match, specPath.Child("matchResources"))...)
	}
	return errs
}
