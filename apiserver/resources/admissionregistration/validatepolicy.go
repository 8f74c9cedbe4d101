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
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission/expressions"
)

var specPath = field.NewPath("spec")

// reasons are those that a validation may refuse with.
func reasons() []metav1.StatusReason {
	return []metav1.StatusReason{metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonRequestEntityTooLarge}
}

func (c *checker) policy(o *v1.ValidatingAdmissionPolicy) field.ErrorList {
	s := &o.Spec
	scope := expressions.Scope{Params: s.ParamKind != nil}
	errs := policyFrame(s.FailurePolicy, s.ParamKind, s.MatchConstraints)
	errs = append(errs, c.conditions(s.MatchConditions, scope, specPath.Child("matchConditions"))...)
	cel := newComposed(scope)
	errs = append(errs, cel.define(s.Variables)...)
	if len(s.Validations) == 0 && len(s.AuditAnnotations) == 0 {
		for _, name := range []string{"validations", "auditAnnotations"} {
			errs = append(errs, field.Required(specPath.Child(name), "validations or auditAnnotations must contain at least one item"))
		}
	}
	for i := range s.Validations {
		errs = append(errs, cel.validation(&s.Validations[i], specPath.Child("validations").Index(i))...)
	}
	return append(errs, cel.annotations(o.Name, s.AuditAnnotations)...)
}

func (c *composed) validation(v *v1.Validation, at *field.Path) field.ErrorList {
	errs := c.expression(v.Expression, c.scope, at.Child("expression"), "expression is not specified", cel.BoolType)
	switch message := v.MessageExpression; {
	case message == "":
	case strings.TrimSpace(message) == "":
		errs = append(errs, field.Invalid(at.Child("messageExpression"), message, "must be non-empty if specified"))
	default:
		scope := c.scope
		scope.Message = true
		errs = append(errs, c.expression(message, scope, at.Child("messageExpression"), "", cel.StringType)...)
	}
	switch text := strings.TrimSpace(v.Message); {
	case v.Message != "" && text == "":
		errs = append(errs, field.Invalid(at.Child("message"), v.Message, "must be non-empty if specified"))
	case strings.Contains(text, "\n"):
		errs = append(errs, field.Invalid(at.Child("message"), v.Message, "must not contain line breaks"))
	}
	if r := v.Reason; r != nil && !slices.Contains(reasons(), *r) {
		errs = append(errs, field.NotSupported(at.Child("reason"), *r, reasons()))
	}
	return errs
}

// annotations check what a policy adds to audit records, by keys that the
// policy's name precedes.
func (c *composed) annotations(policy string, list []v1.AuditAnnotation) field.ErrorList {
	at := specPath.Child("auditAnnotations")
	var errs field.ErrorList
	if len(list) > 20 {
		type shown struct{ Key, ValueExpression string }
		all := make([]shown, len(list))
		for i, a := range list {
			all[i] = shown(a)
		}
		errs = append(errs, field.Invalid(at, all, "must not have more than 20 auditAnnotations"))
	}
	keys := map[string]bool{}
	for i, a := range list {
		at := at.Index(i)
		if policy == "" {
			errs = append(errs, field.Invalid(at.Child("key"), a.Key, "requires metadata.name be non-empty"))
		} else {
			whole := policy + "/" + a.Key
			for _, msg := range validation.IsQualifiedName(whole) {
				errs = append(errs, field.Invalid(at.Child("key"), whole, msg))
			}
		}
		errs = append(errs, c.expression(a.ValueExpression, c.scope, at.Child("valueExpression"), "valueExpression is not specified", cel.StringType, cel.NullType)...)
		if keys[a.Key] {
			errs = append(errs, field.Duplicate(at.Child("key"), a.Key))
		}
		keys[a.Key] = true
	}
	return errs
}

func (c *checker) mutating(o *v1.MutatingAdmissionPolicy) field.ErrorList {
	s := &o.Spec
	scope := expressions.Scope{Params: s.ParamKind != nil}
	errs := policyFrame(s.FailurePolicy, s.ParamKind, s.MatchConstraints)
	if s.MatchConstraints != nil {
		errs = append(errs, mutable(s.MatchConstraints, specPath.Child("matchConstraints"))...)
	}
	errs = append(errs, c.conditions(s.MatchConditions, scope, specPath.Child("matchConditions"))...)
	cel := newComposed(scope)
	errs = append(errs, cel.define(s.Variables)...)
	if len(s.Mutations) == 0 {
		errs = append(errs, field.Required(specPath.Child("mutations"), "mutations must contain at least one item"))
	}
	for i := range s.Mutations {
		errs = append(errs, cel.mutation(&s.Mutations[i], specPath.Child("mutations").Index(i))...)
	}
	switch p := s.ReinvocationPolicy; p {
	case v1.NeverReinvocationPolicy, v1.IfNeededReinvocationPolicy:
	case "":
		errs = append(errs, field.Required(specPath.Child("reinvocationPolicy"), ""))
	default:
		errs = append(errs, field.NotSupported(specPath.Child("reinvocationPolicy"), p, []v1.ReinvocationPolicyType{v1.IfNeededReinvocationPolicy, v1.NeverReinvocationPolicy}))
	}
	return errs
}

// mutable demands operations that bring an object to change.
func mutable(m *v1.MatchResources, at *field.Path) field.ErrorList {
	known := []v1.OperationType{v1.OperationAll, v1.Connect, v1.Create, v1.Update}
	var errs field.ErrorList
	for _, r := range m.ResourceRules {
		for _, op := range r.Operations {
			if !slices.Contains(known, op) {
				errs = append(errs, field.NotSupported(at.Child("resourceRules", "operations"), op, known))
			}
		}
	}
	return errs
}

func (c *composed) mutation(m *v1.Mutation, at *field.Path) field.ErrorList {
	const apply, patch = "applyConfiguration", "jsonPatch"
	scope := c.scope
	scope.Patches = true
	var errs field.ErrorList
	missing := func(name string) {
		errs = append(errs, field.Required(at.Child(name), fmt.Sprintf("must be specified when patchType is %s", m.PatchType)))
	}
	surplus := func(name string) {
		errs = append(errs, field.Invalid(at.Child(name), "{"+name+"}", fmt.Sprintf("must not be specified when patchType is %s", m.PatchType)))
	}
	switch m.PatchType {
	case v1.PatchTypeApplyConfiguration:
		if m.ApplyConfiguration == nil {
			missing(apply)
		} else {
			errs = append(errs, c.expression(m.ApplyConfiguration.Expression, scope, at.Child(apply, "expression"), "", cel.ObjectType("Object"))...)
		}
		if m.JSONPatch != nil {
			surplus(patch)
		}
	case v1.PatchTypeJSONPatch:
		if m.JSONPatch == nil {
			missing(patch)
		} else {
			errs = append(errs, c.expression(m.JSONPatch.Expression, scope, at.Child(patch, "expression"), "", cel.ListType(cel.ObjectType("JSONPatch")))...)
		}
		if m.ApplyConfiguration != nil {
			surplus(apply)
		}
	case "":
		errs = append(errs, field.Required(at.Child("patchType"), ""))
	default:
		errs = append(errs, field.NotSupported(at.Child("patchType"), m.PatchType, []v1.PatchType{v1.PatchTypeApplyConfiguration, v1.PatchTypeJSONPatch}))
	}
	return errs
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
					errs = append(errs, field.Invalid(at.Child("apiVersion"), gv.Group, msg))
				}
			}
			for _, msg := range validation.IsDNS1035Label(gv.Version) {
				errs = append(errs, field.Invalid(at.Child("apiVersion"), gv.Version, msg))
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
	errs := matchPolicy(m.MatchPolicy, at.Child("matchPolicy"))
	errs = append(errs, unversioned.ValidateLabelSelector(m.NamespaceSelector, unversioned.LabelSelectorValidationOptions{}, at.Child("namespaceSelector"))...)
	errs = append(errs, unversioned.ValidateLabelSelector(m.ObjectSelector, unversioned.LabelSelectorValidationOptions{}, at.Child("objectSelector"))...)
	for _, list := range []struct {
		name  string
		rules []v1.NamedRuleWithOperations
	}{{"resourceRules", m.ResourceRules}, {"excludeResourceRules", m.ExcludeResourceRules}} {
		for i := range list.rules {
			at := at.Child(list.name).Index(i)
			errs = append(errs, resourceNames(list.rules[i].ResourceNames, at.Child("resourceNames"))...)
			errs = append(errs, rule(&list.rules[i].RuleWithOperations, at)...)
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
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(at.Child("operations"), ""))
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, v1.OperationAll) {
		errs = append(errs, field.Invalid(at.Child("operations"), r.Operations, "if '*' is present, must not specify other operations"))
	}
	operations := []v1.OperationType{v1.OperationAll, v1.Connect, v1.Create, v1.Delete, v1.Update}
	for i, op := range r.Operations {
		if !slices.Contains(operations, op) {
			errs = append(errs, field.NotSupported(at.Child("operations").Index(i), op, operations))
		}
	}
	whole := func(list []string, child, text string) {
		if len(list) == 0 {
			errs = append(errs, field.Required(at.Child(child), ""))
		}
		if len(list) > 1 && slices.Contains(list, "*") {
			errs = append(errs, field.Invalid(at.Child(child), list, text))
		}
	}
	whole(r.APIGroups, "apiGroups", "if '*' is present, must not specify other API groups")
	whole(r.APIVersions, "apiVersions", "if '*' is present, must not specify other API versions")
	for i, v := range r.APIVersions {
		if v == "" {
			errs = append(errs, field.Required(at.Child("apiVersions").Index(i), ""))
		}
	}
	errs = append(errs, ruleResources(r.Resources, at.Child("resources"))...)
	if s := r.Scope; s != nil && *s != v1.ClusterScope && *s != v1.NamespacedScope && *s != v1.AllScopes {
		errs = append(errs, field.NotSupported(at.Child("scope"), *s, []v1.ScopeType{v1.AllScopes, v1.ClusterScope, v1.NamespacedScope}))
	}
	return errs
}

func validateBinding(o *v1.ValidatingAdmissionPolicyBinding) field.ErrorList {
	// What is missing is told last.
	var errs, last field.ErrorList
	if policy := boundPolicy(o.Spec.PolicyName); o.Spec.PolicyName == "" {
		last = policy
	} else {
		errs = policy
	}
	errs = append(errs, bindingFrame(o.Spec.ParamRef, o.Spec.MatchResources)...)
	at := specPath.Child("validationActions")
	if len(o.Spec.ValidationActions) == 0 {
		last = append(last, field.Required(at, ""))
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
	return append(errs, last...)
}

func validateMutatingBinding(o *v1.MutatingAdmissionPolicyBinding) field.ErrorList {
	errs := append(boundPolicy(o.Spec.PolicyName), bindingFrame(o.Spec.ParamRef, o.Spec.MatchResources)...)
	if m := o.Spec.MatchResources; m != nil {
		errs = append(errs, mutable(m, specPath.Child("matchResources"))...)
	}
	return errs
}

func boundPolicy(name string) field.ErrorList {
	at := specPath.Child("policyName")
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	for _, msg := range apivalidation.NameIsDNSSubdomain(name, false) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
}

func bindingFrame(param *v1.ParamRef, match *v1.MatchResources) field.ErrorList {
	var errs field.ErrorList
	if param != nil {
		at := specPath.Child("paramRef")
		const both = "name and selector are mutually exclusive"
		if param.Name != "" {
			for _, msg := range path.ValidatePathSegmentName(param.Name, false) {
				errs = append(errs, field.Invalid(at.Child("name"), param.Name, msg))
			}
			if param.Selector != nil {
				errs = append(errs, field.Forbidden(at.Child("name"), both))
			}
		}
		if param.Selector != nil {
			errs = append(errs, unversioned.ValidateLabelSelector(param.Selector, unversioned.LabelSelectorValidationOptions{}, at.Child("selector"))...)
			if param.Name != "" {
				errs = append(errs, field.Forbidden(at.Child("selector"), both))
			}
		}
		if param.Name == "" && param.Selector == nil {
			errs = append(errs, field.Required(at, "one of name or selector must be specified"))
		}
		switch a := ptr.Deref(param.ParameterNotFoundAction, ""); a {
		case v1.DenyAction, v1.AllowAction:
		case "":
			errs = append(errs, field.Required(at.Child("parameterNotFoundAction"), ""))
		default:
			errs = append(errs, field.NotSupported(at.Child("parameterNotFoundAction"), a, []v1.ParameterNotFoundActionType{v1.DenyAction, v1.AllowAction}))
		}
	}
	if match != nil {
		errs = append(errs, matchResources(match, specPath.Child("matchResources"))...)
	}
	return errs
}
