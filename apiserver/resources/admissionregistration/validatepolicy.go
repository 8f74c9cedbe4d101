package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	v1 "k8s.io/api/admissionregistration/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var specPath = field.NewPath("spec")

func (c *checker) policy(o *v1.ValidatingAdmissionPolicy) field.ErrorList {
	s := &o.Spec
	errs := policyFrame(s.FailurePolicy, s.ParamKind, s.MatchConstraints)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		for _, name := range []string{"validations", "auditAnnotations"} {
			errs = append(errs, field.Required(specPath.Child(name), "validations or auditAnnotations must contain at least one item"))
		}
	}
	for i, v := range s.Validations {
		at := specPath.Child("validations").Index(i)
		errs = append(errs, c.expression(v.Expression, at.Child("expression"), "expression is not specified", cel.BoolType)...)
		if v.MessageExpression != "" {
			errs = append(errs, c.expression(v.MessageExpression, at.Child("messageExpression"), "must be non-empty if specified", cel.StringType)...)
		}
		if r := v.Reason; r != nil {
			known := []metav1.StatusReason{metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge, metav1.StatusReasonUnauthorized}
			if !slices.Contains(known, *r) {
				errs = append(errs, field.NotSupported(at.Child("reason"), *r, known))
			}
		}
		if v.Message != "" && strings.TrimSpace(v.Message) == "" {
			errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must be non-empty if specified"))
		} else if strings.Contains(strings.TrimSpace(v.Message), "\n") {
			errs = append(errs, field.Invalid(at.Child("message"), v.Message, "message must not contain line breaks"))
		}
	}
	errs = append(errs, c.variables(s.Variables)...)
	if n := len(s.AuditAnnotations); n > 20 {
		errs = append(errs, field.TooMany(specPath.Child("auditAnnotations"), n, 20))
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
		if a.Key != "" {
			for _, msg := range validation.IsQualifiedName(o.Name + "/" + a.Key) {
				errs = append(errs, field.Invalid(at.Child("key"), a.Key, msg))
			}
		}
		errs = append(errs, c.expression(a.ValueExpression, at.Child("valueExpression"), "valueExpression is not specified", cel.StringType, cel.NullType)...)
	}
	return append(errs, c.conditions(s.MatchConditions, specPath.Child("matchConditions"))...)
}

func (c *checker) mutating(o *v1.MutatingAdmissionPolicy) field.ErrorList {
	s := &o.Spec
	errs := policyFrame(s.FailurePolicy, s.ParamKind, s.MatchConstraints)
	errs = append(errs, c.variables(s.Variables)...)
	if p := s.ReinvocationPolicy; p != v1.NeverReinvocationPolicy && p != v1.IfNeededReinvocationPolicy {
		errs = append(errs, field.NotSupported(specPath.Child("reinvocationPolicy"), p, []v1.ReinvocationPolicyType{v1.IfNeededReinvocationPolicy, v1.NeverReinvocationPolicy}))
	}
	if len(s.Mutations) == 0 {
		errs = append(errs, field.Required(specPath.Child("mutations"), "mutations must contain at least one item"))
	}
	for i, m := range s.Mutations {
		at := specPath.Child("mutations").Index(i)
		switch m.PatchType {
		case v1.PatchTypeApplyConfiguration:
			if m.ApplyConfiguration == nil {
				errs = append(errs, field.Required(at.Child("applyConfiguration"), "must be specified when patchType is ApplyConfiguration"))
				break
			}
			errs = append(errs, c.expression(m.ApplyConfiguration.Expression, at.Child("applyConfiguration", "expression"), "expression is not specified", cel.ObjectType("Object"))...)
		case v1.PatchTypeJSONPatch:
			if m.JSONPatch == nil {
				errs = append(errs, field.Required(at.Child("jsonPatch"), "must be specified when patchType is JSONPatch"))
				break
			}
			errs = append(errs, c.expression(m.JSONPatch.Expression, at.Child("jsonPatch", "expression"), "expression is not specified", cel.ListType(cel.ObjectType("JSONPatch")))...)
		case "":
			errs = append(errs, field.Required(at.Child("patchType"), ""))
		default:
			errs = append(errs, field.NotSupported(at.Child("patchType"), m.PatchType, []v1.PatchType{v1.PatchTypeApplyConfiguration, v1.PatchTypeJSONPatch}))
		}
	}
	return append(errs, c.conditions(s.MatchConditions, specPath.Child("matchConditions"))...)
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
		} else if gv, err := schema.ParseGroupVersion(param.APIVersion); err != nil {
			errs = append(errs, field.Invalid(at.Child("apiVersion"), param.APIVersion, err.Error()))
		} else {
			if gv.Group != "" {
				for _, msg := range validation.IsDNS1123Subdomain(gv.Group) {
					errs = append(errs, field.Invalid(at.Child("apiVersion"), gv.Group, "invalid 'group' segment: "+msg))
				}
			}
			for _, msg := range validation.IsDNS1035Label(gv.Version) {
				errs = append(errs, field.Invalid(at.Child("apiVersion"), gv.Version, "invalid 'version' segment: "+msg))
			}
		}
		if param.Kind == "" {
			errs = append(errs, field.Required(at.Child("kind"), ""))
		} else {
			for _, msg := range validation.IsDNS1035Label(strings.ToLower(param.Kind)) {
				errs = append(errs, field.Invalid(at.Child("kind"), param.Kind, "may have mixed case, but should otherwise match: "+msg))
			}
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
	errs = append(errs, matchPolicy(m.MatchPolicy, at.Child("matchPolicy"))...)
	for _, list := range []struct {
		name  string
		rules []v1.NamedRuleWithOperations
	}{{"resourceRules", m.ResourceRules}, {"excludeResourceRules", m.ExcludeResourceRules}} {
		for i := range list.rules {
			at := at.Child(list.name).Index(i)
			errs = append(errs, rule(&list.rules[i].RuleWithOperations, at)...)
			errs = append(errs, resourceNames(list.rules[i].ResourceNames, at.Child("resourceNames"))...)
		}
	}
	return errs
}

func matchPolicy(p *v1.MatchPolicyType, at *field.Path) field.ErrorList {
	switch {
	case p == nil:
		return field.ErrorList{field.Required(at, "")}
	case *p != v1.Exact && *p != v1.Equivalent:
		return field.ErrorList{field.NotSupported(at, *p, []v1.MatchPolicyType{v1.Equivalent, v1.Exact})}
	}
	return nil
}

func resourceNames(list []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, name := range list {
		for _, msg := range path.ValidatePathSegmentName(name, false) {
			errs = append(errs, field.Invalid(at.Index(i), name, msg))
		}
		if seen[name] {
			errs = append(errs, field.Duplicate(at.Index(i), name))
		}
		seen[name] = true
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
	errs = append(errs, ruleResources(r.Resources, at.Child("resources"))...)
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
	} else {
		for _, msg := range apivalidation.NameIsDNSSubdomain(policy, false) {
			errs = append(errs, field.Invalid(specPath.Child("policyName"), policy, msg))
		}
	}
	if param != nil {
		at := specPath.Child("paramRef")
		switch {
		case param.Name != "" && param.Selector != nil:
			errs = append(errs, field.Forbidden(at.Child("name"), "name and selector are mutually exclusive"))
		case param.Name == "" && param.Selector == nil:
			errs = append(errs, field.Required(at, "one of name or selector must be specified"))
		}
		if param.Name != "" {
			for _, msg := range path.ValidatePathSegmentName(param.Name, false) {
				errs = append(errs, field.Invalid(at.Child("name"), param.Name, msg))
			}
		}
		if param.Selector != nil {
			errs = append(errs, unversioned.ValidateLabelSelector(param.Selector, unversioned.LabelSelectorValidationOptions{}, at.Child("selector"))...)
		}
		if a := param.ParameterNotFoundAction; a == nil {
			errs = append(errs, field.Required(at.Child("parameterNotFoundAction"), ""))
		} else if *a != v1.DenyAction && *a != v1.AllowAction {
			errs = append(errs, field.NotSupported(at.Child("parameterNotFoundAction"), *a, []v1.ParameterNotFoundActionType{v1.AllowAction, v1.DenyAction}))
		}
	}
	if match != nil {
		errs = append(errs, matchResources(match, specPath.Child("matchResources"))...)
	}
	return errs
}
