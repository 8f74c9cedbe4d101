package webhook

import (
	"context"
	"fmt"
	"reflect"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	arv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
)

// Mutating asks the mutating webhooks one after the other.
type Mutating struct{ *core }

// NewMutating makes the plugin.
func NewMutating(c Config) (*Mutating, error) {
	k, err := newCore(c, "mutating")
	c.Informers.Admissionregistration().V1().MutatingWebhookConfigurations().Informer()
	return &Mutating{k}, err
}

// Name is upstream's.
func (*Mutating) Name() string { return MutatingName }

// Handles all operations.
func (*Mutating) Handles(admission.Operation) bool { return true }

// passState is what the first pass leaves for the second.
type passState struct {
	// asked holds the object as each webhook that may be asked again left it.
	asked map[string]runtime.Object
}

// Admit lets each webhook patch the object.
func (p *Mutating) Admit(ctx context.Context, a *admission.Attributes) error {
	if exempt(a.GroupResource()) {
		return nil
	}
	all, err := p.cfg.Informers.Admissionregistration().V1().MutatingWebhookConfigurations().Lister().List(labels.Everything())
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	st, _ := a.Reinvocation.State.(*passState)
	if st == nil {
		st = &passState{asked: map[string]runtime.Object{}}
		a.Reinvocation.State = st
	}
	// The number of a webhook among all is part of its annotations' keys.
	index := -1
	for _, conf := range sorted(all, func(c *arv1.MutatingWebhookConfiguration) string { return c.Name }) {
		for i := range conf.Webhooks {
			index++
			w := &conf.Webhooks[i]
			h := hook{configuration: conf.Name, key: conf.Name + "/" + w.Name, reinvoke: ptr.Deref(w.ReinvocationPolicy, arv1.NeverReinvocationPolicy) == arv1.IfNeededReinvocationPolicy,
				ValidatingWebhook: arv1.ValidatingWebhook{Name: w.Name, ClientConfig: w.ClientConfig, Rules: w.Rules, FailurePolicy: w.FailurePolicy, MatchPolicy: w.MatchPolicy,
					NamespaceSelector: w.NamespaceSelector, ObjectSelector: w.ObjectSelector, SideEffects: w.SideEffects, TimeoutSeconds: w.TimeoutSeconds,
					AdmissionReviewVersions: w.AdmissionReviewVersions, MatchConditions: w.MatchConditions}}
			if a.Reinvocation.Pass > 0 {
				left, was := st.asked[h.key]
				if !was || reflect.DeepEqual(left, a.Object) {
					continue
				}
			}
			inv, err := p.relevant(ctx, h, a)
			if err != nil {
				return err
			}
			if inv == nil {
				continue
			}
			marks := annotations{fmt.Sprintf("round_%d_index_%d", a.Reinvocation.Pass, index), conf.Name, w.Name}
			resp, err := p.observed(ctx, admission.PhaseAdmit, inv, a)
			if err == nil && len(resp.Patch) > 0 {
				before := a.Object
				if err = apply(inv, a, resp); err == nil {
					marks.patched(a, resp.Patch)
				}
				marks.mutated(a, !reflect.DeepEqual(before, a.Object))
			} else {
				marks.mutated(a, false)
			}
			if err := failed(inv, a, failedOpenKey+mutationKey+marks.round, err); err != nil {
				return err
			}
			if h.reinvoke && a.Object != nil {
				st.asked[h.key] = a.Object.DeepCopyObject()
			}
		}
	}
	if a.Reinvocation.Pass == 0 {
		for _, left := range st.asked {
			a.Reinvocation.Requested = a.Reinvocation.Requested || !reflect.DeepEqual(left, a.Object)
		}
	}
	return nil
}

// apply patches the object in the webhook's version.
func apply(inv *invocation, a *admission.Attributes, r *admissionv1.AdmissionResponse) error {
	patch, err := jsonpatch.DecodePatch(r.Patch)
	if err != nil {
		return errCall{fmt.Errorf("received undecodable patch in webhook response: %w", err)}
	}
	if *r.PatchType != admissionv1.PatchTypeJSONPatch {
		return errCall{fmt.Errorf("unsupported patch type %q: use JSONPatch", *r.PatchType)}
	}
	if a.Object == nil {
		return apierrors.NewInternalError(fmt.Errorf("admission webhook %q attempted to modify the object, which is not supported for this operation", inv.Name))
	}
	if len(patch) == 0 {
		return nil
	}
	return Rewrite(a, inv.kind, func(current runtime.Object) (runtime.Object, error) {
		next, err := Patched(current, patch, false)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		return next, nil
	})
}
