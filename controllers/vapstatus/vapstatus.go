// Package vapstatus checks the expressions of each ValidatingAdmissionPolicy
// against the types that the policy is for, and says in its status what it found.
package vapstatus

import (
	"context"

	admission "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	admissionlisters "k8s.io/client-go/listers/admissionregistration/v1"
	"k8s.io/klog/v2"

	"skiff/controllers/loop"
)

// readTries is how often the types of a policy are asked for before the status is
// written without those that cannot be read: their server may be gone for long.
const readTries = 5

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller keeps the status of policies.
type Controller struct {
	*loop.Loop
	parts    loop.Parts
	policies admissionlisters.ValidatingAdmissionPolicyLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("validatingadmissionpolicy-status")
	if err != nil {
		return nil, err
	}
	policies := parts.Informers.Admissionregistration().V1().ValidatingAdmissionPolicies()
	v := &Controller{parts: parts, policies: policies.Lister()}
	v.Loop = loop.New("validatingadmissionpolicy-status", parts, v.sync)
	v.On(policies.Informer(), loop.Changed(func(p *admission.ValidatingAdmissionPolicy) { v.Add(p.Name) }))
	return v, nil
}

func (c *Controller) sync(ctx context.Context, name string) error {
	p, err := c.policies.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if p.Generation <= p.Status.ObservedGeneration && p.Status.TypeChecking != nil {
		return nil
	}
	of, err := newSchemas(c.read).typesOf(ctx, p)
	if ctx.Err() != nil || err != nil && c.Retries(name) < readTries {
		return err
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "Checking a policy without the types that cannot be read", "policy", name)
	}
	warnings, err := check(ctx, p, of)
	if err != nil {
		return err
	}
	next := p.DeepCopy()
	next.Status.ObservedGeneration = p.Generation
	next.Status.TypeChecking = &admission.TypeChecking{ExpressionWarnings: warnings}
	_, err = c.parts.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies().UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

// read gives what the API server publishes at path.
func (c *Controller) read(ctx context.Context, path string) ([]byte, error) {
	return c.parts.Client.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").Do(ctx).Raw()
}
