// Package policy is what ValidatingAdmissionPolicies and MutatingAdmissionPolicies
// share: which requests they cover, the variables of their expressions, and the
// params of their bindings.
package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	arv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/expressions"
	"skiff/apiserver/admission/lookup"
	"skiff/apiserver/admission/webhook"
)

// Config is what policies need.
type Config struct {
	webhook.Config
	// Dynamic reads params; nil refuses policies that take them.
	Dynamic dynamic.Interface
}

// Engine tests and evaluates policies.
type Engine struct {
	cfg     Config
	matcher *webhook.Matcher
	*expressions.Compiler
}

// New makes an Engine with a compiler.
func New(c Config, compiler *expressions.Compiler) *Engine {
	return &Engine{cfg: c, matcher: webhook.NewMatcher(c.Config), Compiler: compiler}
}

// With adds a param and a policy's own variables to the shared values.
func (e *Engine) With(ctx context.Context, shared map[string]any, param any, variables []arv1.Variable) map[string]any {
	values := maps.Clone(shared)
	values["params"] = param
	values["variables"] = e.Variables(ctx, variables, values)
	return values
}

// Match evaluates match conditions. One that is false decides, even when another
// fails; errs tells of those that failed where none was.
func (e *Engine) Match(ctx context.Context, conditions []arv1.MatchCondition, values map[string]any) (match bool, errs []error) {
	for _, m := range conditions {
		ok, err := e.Holds(ctx, m.Expression, values)
		if err != nil {
			errs = append(errs, Failed(m.Expression, err))
		} else if !ok {
			return false, nil
		}
	}
	return len(errs) == 0, errs
}

// Failed is the error of an expression that could not be evaluated.
func Failed(expression string, cause error) error {
	return fmt.Errorf("expression '%v' resulted in error: %w", expression, cause)
}

// Unconfigured is an error about a policy or a binding as they are, whatever the
// request is.
type Unconfigured struct {
	// Policy says that no binding can be better.
	Policy bool
	Cause  error
}

// Error says what cannot be configured.
func (e *Unconfigured) Error() string {
	if e.Policy {
		return "failed to configure policy: " + e.Cause.Error()
	}
	return "failed to configure binding: " + e.Cause.Error()
}

// Unwrap is the cause.
func (e *Unconfigured) Unwrap() error { return e.Cause }

// Covers tests match resources: rules, exclusions and selectors.
func (e *Engine) Covers(ctx context.Context, m *arv1.MatchResources, a *admission.Attributes) (bool, error) {
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
	return e.matcher.Namespace(ctx, m.NamespaceSelector, a)
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

// Values are the variables that all policies share.
func (e *Engine) Values(ctx context.Context, a *admission.Attributes) (map[string]any, error) {
	v, err := e.matcher.Values(a)
	if err != nil {
		return nil, err
	}
	webhook.SetAuthorizer(v, a, e.cfg.Authorizer)
	v["namespaceObject"] = nil
	if a.Namespace != "" && a.Resource.Resource != "namespaces" {
		ns, err := lookup.Get(ctx, a.Namespace, e.cfg.Informers.Core().V1().Namespaces().Lister().Get, e.cfg.Client.CoreV1().Namespaces().Get)
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

// Params are the objects that a binding names; one nil when the policy takes none.
func (e *Engine) Params(ctx context.Context, kind *arv1.ParamKind, r *arv1.ParamRef, a *admission.Attributes) ([]any, *Unconfigured) {
	out, err := e.params(ctx, kind, r, a)
	var wrong *Unconfigured
	if err != nil && !errors.As(err, &wrong) {
		wrong = &Unconfigured{Cause: err}
	}
	return out, wrong
}

func (e *Engine) params(ctx context.Context, kind *arv1.ParamKind, r *arv1.ParamRef, a *admission.Attributes) ([]any, error) {
	if kind == nil || r == nil {
		return []any{nil}, nil
	}
	if e.cfg.Dynamic == nil {
		return nil, errors.New("params cannot be read: the server has no dynamic client")
	}
	list, err := e.cfg.Client.Discovery().ServerResourcesForGroupVersion(kind.APIVersion)
	if err != nil {
		return nil, &Unconfigured{Policy: true, Cause: fmt.Errorf("failed to find resource referenced by paramKind: '%v, Kind=%v'", kind.APIVersion, kind.Kind)}
	}
	i := slices.IndexFunc(list.APIResources, func(x metav1.APIResource) bool { return x.Kind == kind.Kind && !strings.Contains(x.Name, "/") })
	if i < 0 {
		return nil, &Unconfigured{Policy: true, Cause: fmt.Errorf("failed to find resource referenced by paramKind: '%v, Kind=%v'", kind.APIVersion, kind.Kind)}
	}
	gv, err := schema.ParseGroupVersion(kind.APIVersion)
	if err != nil {
		return nil, err
	}
	var from dynamic.ResourceInterface = e.cfg.Dynamic.Resource(gv.WithResource(list.APIResources[i].Name))
	if list.APIResources[i].Namespaced {
		ns := r.Namespace
		if ns == "" {
			ns = a.Namespace
		}
		if ns == "" {
			return nil, errors.New("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
		}
		from = e.cfg.Dynamic.Resource(gv.WithResource(list.APIResources[i].Name)).Namespace(ns)
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
