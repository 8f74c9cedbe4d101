// Package validatingpolicy applies ValidatingAdmissionPolicies by their bindings.
package validatingpolicy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	arv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
	"skiff/apiserver/admission/webhook"
)

// Name of the plugin.
const Name = "ValidatingAdmissionPolicy"

const auditKey = "validation.policy.admission.k8s.io/validation_failure"

// Config is what the plugin needs.
type Config struct {
	webhook.Config
	// Dynamic reads params.
	Dynamic dynamic.Interface
}

// Plugin evaluates policies.
type Plugin struct {
	cfg     Config
	matcher *webhook.Matcher
	cel     *compiler
}

// New makes the plugin.
func New(c Config) (*Plugin, error) {
	comp, err := newCompiler()
	if err != nil {
		return nil, err
	}
	c.Informers.Admissionregistration().V1().ValidatingAdmissionPolicies().Informer()
	c.Informers.Admissionregistration().V1().ValidatingAdmissionPolicyBindings().Informer()
	return &Plugin{cfg: c, matcher: webhook.NewMatcher(c.Config), cel: comp}, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles all operations.
func (*Plugin) Handles(admission.Operation) bool { return true }

// failure is one validation that did not hold, or could not be evaluated.
type failure struct {
	message string
	reason  metav1.StatusReason
	index   int
}

// Validate evaluates the policies whose bindings cover the request.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if webhook.Exempt(a) {
		return nil
	}
	reg := p.cfg.Informers.Admissionregistration().V1()
	bindings, err := reg.ValidatingAdmissionPolicyBindings().Lister().List(labels.Everything())
	if err != nil || len(bindings) == 0 {
		return err
	}
	bindings = slices.Clone(bindings)
	slices.SortFunc(bindings, func(x, y *arv1.ValidatingAdmissionPolicyBinding) int { return strings.Compare(x.Name, y.Name) })
	var values map[string]any
	var refused error
	for _, b := range bindings {
		policy, err := reg.ValidatingAdmissionPolicies().Lister().Get(b.Spec.PolicyName)
		if err != nil {
			continue
		}
		if ok, err := p.covers(ctx, policy.Spec.MatchConstraints, a); err != nil || !ok {
			if err != nil {
				return err
			}
			continue
		}
		if b.Spec.MatchResources != nil {
			if ok, err := p.covers(ctx, b.Spec.MatchResources, a); err != nil || !ok {
				if err != nil {
					return err
				}
				continue
			}
		}
		if values == nil {
			if values, err = p.values(ctx, a); err != nil {
				return err
			}
		}
		failures, err := p.evaluate(ctx, policy, b, a, values)
		if err != nil {
			if ptr.Deref(policy.Spec.FailurePolicy, arv1.Fail) == arv1.Ignore {
				continue
			}
			failures = []failure{{message: "failed to configure binding: " + err.Error()}}
		}
		if err := p.act(a, policy, b, failures); err != nil && refused == nil {
			refused = err
		}
	}
	return refused
}

// covers tests match resources: rules, exclusions and selectors.
func (p *Plugin) covers(ctx context.Context, m *arv1.MatchResources, a *admission.Attributes) (bool, error) {
	if m == nil {
		return true, nil
	}
	equivalent := ptr.Deref(m.MatchPolicy, arv1.Equivalent) == arv1.Equivalent
	if named(m.ExcludeResourceRules, equivalent, a) {
		return false, nil
	}
	if len(m.ResourceRules) > 0 && !named(m.ResourceRules, equivalent, a) {
		return false, nil
	}
	if ok, err := webhook.ObjectMatches(m.ObjectSelector, a); err != nil || !ok {
		return false, err
	}
	return p.matcher.Namespace(ctx, m.NamespaceSelector, a)
}

func named(rules []arv1.NamedRuleWithOperations, equivalent bool, a *admission.Attributes) bool {
	for _, r := range rules {
		if len(r.ResourceNames) > 0 && !slices.Contains(r.ResourceNames, a.Name) {
			continue
		}
		if _, ok := webhook.Rules([]arv1.RuleWithOperations{r.RuleWithOperations}, equivalent, a); ok {
			return true
		}
	}
	return false
}

// values are the variables that all policies share.
func (p *Plugin) values(ctx context.Context, a *admission.Attributes) (map[string]any, error) {
	v, err := p.matcher.Values(a)
	if err != nil {
		return nil, err
	}
	v["authorizer"] = library.NewAuthorizerVal(a.User, p.cfg.Authorizer)
	v["authorizer.requestResource"] = library.NewResourceAuthorizerVal(a.User, p.cfg.Authorizer, target{a})
	v["namespaceObject"] = nil
	if a.Namespace != "" && a.Resource.Resource != "namespaces" {
		ns, err := lookup.Get(ctx, a.Namespace, p.cfg.Informers.Core().V1().Namespaces().Lister().Get, p.cfg.Client.CoreV1().Namespaces().Get)
		if err != nil {
			return nil, err
		}
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(ns)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		v["namespaceObject"] = m
	}
	return v, nil
}

// target is the request's resource for authorizer.requestResource.
type target struct{ a *admission.Attributes }

func (t target) GetName() string                          { return t.a.Name }
func (t target) GetNamespace() string                     { return t.a.Namespace }
func (t target) GetResource() schema.GroupVersionResource { return t.a.Resource }
func (t target) GetSubresource() string                   { return t.a.Subresource }

// evaluate gives the failures of one policy under one binding, over all params.
func (p *Plugin) evaluate(ctx context.Context, policy *arv1.ValidatingAdmissionPolicy, b *arv1.ValidatingAdmissionPolicyBinding, a *admission.Attributes, shared map[string]any) ([]failure, error) {
	params, err := p.params(ctx, policy, b, a)
	if err != nil {
		return nil, err
	}
	ignore := ptr.Deref(policy.Spec.FailurePolicy, arv1.Fail) == arv1.Ignore
	var out []failure
	for _, param := range params {
		values := make(map[string]any, len(shared)+2)
		for k, v := range shared {
			values[k] = v
		}
		values["params"] = param
		values["variables"] = p.cel.variables(ctx, policy.Spec.Variables, values)
		match := true
		for _, m := range policy.Spec.MatchConditions {
			ok, err := p.cel.holds(ctx, m.Expression, values)
			if err != nil {
				match = false
				if !ignore {
					out = append(out, failure{message: fmt.Sprintf("matchCondition %q resulted in error: %v", m.Name, err)})
				}
				continue
			}
			match = match && ok
		}
		if !match {
			continue
		}
		for i := range policy.Spec.Validations {
			v := &policy.Spec.Validations[i]
			ok, err := p.cel.holds(ctx, v.Expression, values)
			switch {
			case err != nil && !ignore:
				out = append(out, failure{message: fmt.Sprintf("expression '%v' resulted in error: %v", v.Expression, err), index: i})
			case err == nil && !ok:
				out = append(out, failure{message: p.cel.message(ctx, v, values), reason: ptr.Deref(v.Reason, ""), index: i})
			}
		}
		for _, n := range policy.Spec.AuditAnnotations {
			res, err := p.cel.eval(ctx, n.ValueExpression, values)
			if err != nil {
				continue
			}
			if s, ok := res.Value().(string); ok && s != "" && a.Annotate != nil {
				a.Annotate(policy.Name+"/"+n.Key, s)
			}
		}
	}
	return out, nil
}

// act does what the binding asks for: warn, audit, deny.
func (p *Plugin) act(a *admission.Attributes, policy *arv1.ValidatingAdmissionPolicy, b *arv1.ValidatingAdmissionPolicyBinding, failures []failure) error {
	var refused error
	for _, f := range failures {
		for _, action := range b.Spec.ValidationActions {
			switch action {
			case arv1.Warn:
				if a.Warn != nil {
					a.Warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", policy.Name, b.Name, f.message))
				}
			case arv1.Audit:
				if a.Annotate != nil {
					data, err := json.Marshal([]map[string]any{{"message": f.message, "policy": policy.Name, "binding": b.Name, "expressionIndex": f.index, "validationActions": b.Spec.ValidationActions}})
					if err == nil {
						a.Annotate(auditKey, string(data))
					}
				}
			case arv1.Deny:
				if refused == nil {
					refused = deny(a, policy.Name, b.Name, f)
				}
			}
		}
	}
	return refused
}

func deny(a *admission.Attributes, policy, binding string, f failure) error {
	text := fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", policy, binding, f.message)
	err := apierrors.NewForbidden(a.GroupResource(), a.ObjectName(), errors.New(text))
	reason := f.reason
	if reason == "" {
		reason = metav1.StatusReasonInvalid
	}
	err.ErrStatus.Reason = reason
	switch reason {
	case metav1.StatusReasonForbidden:
		err.ErrStatus.Code = http.StatusForbidden
	case metav1.StatusReasonUnauthorized:
		err.ErrStatus.Code = http.StatusUnauthorized
	case metav1.StatusReasonRequestEntityTooLarge:
		err.ErrStatus.Code = http.StatusRequestEntityTooLarge
	default:
		err.ErrStatus.Code = http.StatusUnprocessableEntity
	}
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Message: text})
	return err
}

// params are the objects that the binding names; one nil when the policy takes none.
func (p *Plugin) params(ctx context.Context, policy *arv1.ValidatingAdmissionPolicy, b *arv1.ValidatingAdmissionPolicyBinding, a *admission.Attributes) ([]any, error) {
	kind, r := policy.Spec.ParamKind, b.Spec.ParamRef
	if kind == nil || r == nil {
		return []any{nil}, nil
	}
	if p.cfg.Dynamic == nil {
		return nil, errors.New("params cannot be read: the server has no dynamic client")
	}
	list, err := p.cfg.Client.Discovery().ServerResourcesForGroupVersion(kind.APIVersion)
	if err != nil {
		return nil, fmt.Errorf("failed to find resource referenced by paramKind: '%v, Kind=%v'", kind.APIVersion, kind.Kind)
	}
	i := slices.IndexFunc(list.APIResources, func(x metav1.APIResource) bool { return x.Kind == kind.Kind && !strings.Contains(x.Name, "/") })
	if i < 0 {
		return nil, fmt.Errorf("failed to find resource referenced by paramKind: '%v, Kind=%v'", kind.APIVersion, kind.Kind)
	}
	gv, err := schema.ParseGroupVersion(kind.APIVersion)
	if err != nil {
		return nil, err
	}
	var from dynamic.ResourceInterface = p.cfg.Dynamic.Resource(gv.WithResource(list.APIResources[i].Name))
	if list.APIResources[i].Namespaced {
		ns := r.Namespace
		if ns == "" {
			ns = a.Namespace
		}
		if ns == "" {
			return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
		}
		from = p.cfg.Dynamic.Resource(gv.WithResource(list.APIResources[i].Name)).Namespace(ns)
	} else if r.Namespace != "" {
		return nil, errors.New("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
	}
	var out []any
	if r.Name != "" {
		obj, err := from.Get(ctx, r.Name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			out = append(out, obj.Object)
		}
	} else {
		sel, err := metav1.LabelSelectorAsSelector(r.Selector)
		if err != nil {
			return nil, err
		}
		objs, err := from.List(ctx, metav1.ListOptions{LabelSelector: sel.String()})
		if err != nil {
			return nil, err
		}
		for i := range objs.Items {
			out = append(out, objs.Items[i].Object)
		}
	}
	if len(out) == 0 && ptr.Deref(r.ParameterNotFoundAction, arv1.DenyAction) == arv1.DenyAction {
		return nil, errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
	}
	return out, nil
}
