// Package mutatingpolicy applies MutatingAdmissionPolicies by their bindings.
package mutatingpolicy

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	arv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/expressions"
	"skiff/apiserver/admission/policy"
	"skiff/apiserver/admission/webhook"
)

// Name of the plugin.
const Name = "MutatingAdmissionPolicy"

// Plugin lets policies change objects.
type Plugin struct {
	cfg    policy.Config
	engine *policy.Engine
}

// New makes the plugin.
func New(c policy.Config) (*Plugin, error) {
	compiler, err := expressions.New(expressions.Mutations()...)
	if err != nil {
		return nil, err
	}
	c.Informers.Admissionregistration().V1().MutatingAdmissionPolicies().Informer()
	c.Informers.Admissionregistration().V1().MutatingAdmissionPolicyBindings().Informer()
	return &Plugin{cfg: c, engine: policy.New(c, compiler)}, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles what has an object to change.
func (*Plugin) Handles(op admission.Operation) bool { return op != admission.Delete }

// Admit runs the policies whose bindings cover the request, by the names of the
// bindings. The second pass runs those that want to see what others changed.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	if webhook.Exempt(a) || a.Object == nil || reflect.ValueOf(a.Object).IsNil() {
		return nil
	}
	reg := p.cfg.Informers.Admissionregistration().V1()
	bindings, err := reg.MutatingAdmissionPolicyBindings().Lister().List(labels.Everything())
	if err != nil || len(bindings) == 0 {
		return err
	}
	bindings = slices.Clone(bindings)
	slices.SortFunc(bindings, func(x, y *arv1.MutatingAdmissionPolicyBinding) int { return strings.Compare(x.Name, y.Name) })
	for _, b := range bindings {
		pol, err := reg.MutatingAdmissionPolicies().Lister().Get(b.Spec.PolicyName)
		if err != nil || a.Reinvocation.Pass > 0 && pol.Spec.ReinvocationPolicy != arv1.IfNeededReinvocationPolicy {
			continue
		}
		ok, err := p.engine.Covers(ctx, pol.Spec.MatchConstraints, a)
		if err == nil && ok {
			ok, err = p.engine.Covers(ctx, b.Spec.MatchResources, a)
		}
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		before := a.Object
		if err := p.mutate(ctx, pol, b, a); err != nil {
			a.Object = before
			if ptr.Deref(pol.Spec.FailurePolicy, arv1.Fail) == arv1.Ignore {
				continue
			}
			return refuse(a, pol.Name, b.Name, err)
		}
		if a.Reinvocation.Pass == 0 && !reflect.DeepEqual(before, a.Object) {
			a.Reinvocation.Requested = true
		}
	}
	return nil
}

// mutate runs a policy under one binding, once for each param.
func (p *Plugin) mutate(ctx context.Context, pol *arv1.MutatingAdmissionPolicy, b *arv1.MutatingAdmissionPolicyBinding, a *admission.Attributes) error {
	params, wrong := p.engine.Params(ctx, pol.Spec.ParamKind, b.Spec.ParamRef, a)
	if wrong != nil {
		return wrong
	}
	for _, param := range params {
		for i := range pol.Spec.Mutations {
			// Each mutation sees what the one before made.
			shared, err := p.engine.Values(ctx, a)
			if err != nil {
				return err
			}
			values := p.engine.With(ctx, shared, param, pol.Spec.Variables)
			if i == 0 {
				match, errs := p.engine.Match(ctx, pol.Spec.MatchConditions, values)
				if len(errs) > 0 {
					return errors.Join(errs...)
				}
				if !match {
					break
				}
			}
			err = webhook.Rewrite(a, a.Kind, func(current runtime.Object) (runtime.Object, error) {
				return p.apply(ctx, &pol.Spec.Mutations[i], values, a, current)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse is the answer to a request that a policy cannot be applied to.
func refuse(a *admission.Attributes, pol, binding string, cause error) error {
	var unreadable webhook.Unreadable
	if errors.As(cause, &unreadable) {
		return apierrors.NewInternalError(unreadable)
	}
	text := fmt.Sprintf("policy '%s' with binding '%s' denied request: %v", pol, binding, cause)
	reason := metav1.StatusReasonInvalid
	var wrong *policy.Unconfigured
	if errors.As(cause, &wrong) {
		reason = metav1.StatusReasonForbidden
		if wrong.Policy {
			text = fmt.Sprintf("policy %q denied request: %v", pol, cause)
		}
	}
	err := apierrors.NewForbidden(a.GroupResource(), a.ObjectName(), errors.New(text))
	err.ErrStatus.Reason, err.ErrStatus.Message = reason, text
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Message: text})
	return err
}
