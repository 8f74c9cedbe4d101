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
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/expressions"
	"skiff/apiserver/admission/policy"
	"skiff/apiserver/admission/webhook"
)

// Name of the plugin.
const Name = "ValidatingAdmissionPolicy"

const auditKey = "validation.policy.admission.k8s.io/validation_failure"

// Plugin evaluates policies.
type Plugin struct {
	cfg    policy.Config
	engine *policy.Engine
}

// New makes the plugin.
func New(c policy.Config) (*Plugin, error) {
	compiler, err := expressions.New(expressions.Policy()...)
	if err != nil {
		return nil, err
	}
	c.Informers.Admissionregistration().V1().ValidatingAdmissionPolicies().Informer()
	c.Informers.Admissionregistration().V1().ValidatingAdmissionPolicyBindings().Informer()
	return &Plugin{cfg: c, engine: policy.New(c, compiler)}, nil
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
	// unconfigured is set where the policy or the binding is what failed. Such a
	// request is refused whatever the binding's actions are.
	unconfigured *policy.Unconfigured
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
		pol, err := reg.ValidatingAdmissionPolicies().Lister().Get(b.Spec.PolicyName)
		if err != nil {
			continue
		}
		if ok, err := p.engine.Covers(ctx, pol.Spec.MatchConstraints, a); err != nil || !ok {
			if err != nil {
				return err
			}
			continue
		}
		if b.Spec.MatchResources != nil {
			if ok, err := p.engine.Covers(ctx, b.Spec.MatchResources, a); err != nil || !ok {
				if err != nil {
					return err
				}
				continue
			}
		}
		if values == nil {
			if values, err = p.engine.Values(ctx, a); err != nil {
				return err
			}
		}
		failures := p.evaluate(ctx, pol, b, a, values)
		if err := p.act(a, pol, b, failures); err != nil && refused == nil {
			refused = err
		}
	}
	return refused
}

// evaluate gives the failures of one policy under one binding, over all params.
func (p *Plugin) evaluate(ctx context.Context, pol *arv1.ValidatingAdmissionPolicy, b *arv1.ValidatingAdmissionPolicyBinding, a *admission.Attributes, shared map[string]any) []failure {
	ignore := ptr.Deref(pol.Spec.FailurePolicy, arv1.Fail) == arv1.Ignore
	params, wrong := p.engine.Params(ctx, pol.Spec.ParamKind, b.Spec.ParamRef, a)
	switch {
	case wrong != nil && ignore:
		return nil
	case wrong != nil:
		return []failure{{message: wrong.Error(), unconfigured: wrong}}
	}
	var out []failure
	for _, param := range params {
		values := p.engine.With(ctx, shared, param, pol.Spec.Variables)
		match, errs := p.engine.Match(ctx, pol.Spec.MatchConditions, values)
		if !ignore {
			for _, err := range errs {
				out = append(out, failure{message: err.Error()})
			}
		}
		if !match {
			continue
		}
		for i := range pol.Spec.Validations {
			v := &pol.Spec.Validations[i]
			ok, err := p.engine.Holds(ctx, v.Expression, values)
			switch {
			case err != nil && !ignore:
				out = append(out, failure{message: policy.Failed(v.Expression, err).Error(), index: i})
			case err == nil && !ok:
				out = append(out, failure{message: p.message(ctx, v, values), reason: ptr.Deref(v.Reason, ""), index: i})
			}
		}
		for _, n := range pol.Spec.AuditAnnotations {
			res, err := p.engine.Eval(ctx, n.ValueExpression, values)
			if err != nil {
				continue
			}
			if s, ok := res.Value().(string); ok && s != "" && a.Annotate != nil {
				a.Annotate(pol.Name+"/"+n.Key, s)
			}
		}
	}
	return out
}

// act does what the binding asks for: warn, audit, deny.
func (p *Plugin) act(a *admission.Attributes, pol *arv1.ValidatingAdmissionPolicy, b *arv1.ValidatingAdmissionPolicyBinding, failures []failure) error {
	var refused error
	for _, f := range failures {
		if f.unconfigured != nil {
			return deny(a, pol.Name, b.Name, f)
		}
		for _, action := range b.Spec.ValidationActions {
			switch action {
			case arv1.Warn:
				if a.Warn != nil {
					a.Warn(fmt.Sprintf("Validation failed for ValidatingAdmissionPolicy '%s' with binding '%s': %s", pol.Name, b.Name, f.message))
				}
			case arv1.Audit:
				if a.Annotate != nil {
					data, err := json.Marshal([]map[string]any{{"message": f.message, "policy": pol.Name, "binding": b.Name, "expressionIndex": f.index, "validationActions": b.Spec.ValidationActions}})
					if err == nil {
						a.Annotate(auditKey, string(data))
					}
				}
			case arv1.Deny:
				if refused == nil {
					refused = deny(a, pol.Name, b.Name, f)
				}
			}
		}
	}
	return refused
}

func deny(a *admission.Attributes, pol, binding string, f failure) error {
	text := fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", pol, binding, f.message)
	if f.unconfigured != nil && f.unconfigured.Policy {
		text = fmt.Sprintf("ValidatingAdmissionPolicy '%s' denied request: %s", pol, f.message)
	}
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

// message is the text for a validation that failed.
func (p *Plugin) message(ctx context.Context, v *arv1.Validation, values map[string]any) string {
	if v.MessageExpression != "" {
		if out, err := p.engine.Eval(ctx, v.MessageExpression, values); err == nil {
			if s, ok := out.Value().(string); ok && strings.TrimSpace(s) != "" && !strings.Contains(s, "\n") {
				return strings.TrimSpace(s)
			}
		}
	}
	if v.Message != "" {
		return strings.TrimSpace(v.Message)
	}
	return "failed expression: " + strings.TrimSpace(v.Expression)
}
