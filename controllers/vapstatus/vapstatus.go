// Package vapstatus notes in each ValidatingAdmissionPolicy's status that its
// newest version has been seen.
package vapstatus

import (
	"context"

	admission "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	admissionlisters "k8s.io/client-go/listers/admissionregistration/v1"

	"skiff/controllers/loop"
)

// Check reports what is wrong with the types of a policy's expressions.
type Check func(*admission.ValidatingAdmissionPolicy) []admission.ExpressionWarning

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Check looks at the expressions. Default: nothing is found.
	Check Check
}

// Controller keeps the status of policies.
type Controller struct {
	*loop.Loop
	parts    loop.Parts
	check    Check
	policies admissionlisters.ValidatingAdmissionPolicyLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("validatingadmissionpolicy-status")
	if err != nil {
		return nil, err
	}
	if c.Check == nil {
		c.Check = func(*admission.ValidatingAdmissionPolicy) []admission.ExpressionWarning { return nil }
	}
	policies := parts.Informers.Admissionregistration().V1().ValidatingAdmissionPolicies()
	v := &Controller{parts: parts, check: c.Check, policies: policies.Lister()}
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
	next := p.DeepCopy()
	next.Status.ObservedGeneration = p.Generation
	next.Status.TypeChecking = &admission.TypeChecking{ExpressionWarnings: c.check(p)}
	_, err = c.parts.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies().UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}
