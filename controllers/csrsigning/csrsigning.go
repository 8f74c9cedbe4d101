// Package csrsigning issues the certificates of approved signing requests to
// the signers of kubernetes.io.
package csrsigning

import (
	"context"
	"errors"
	"fmt"

	certs "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	certlisters "k8s.io/client-go/listers/certificates/v1"

	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Signers by signer name. Required.
	Signers map[string]Signer
}

// Controller signs requests.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	signers map[string]Signer
	csrs    certlisters.CertificateSigningRequestLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("csrsigning")
	errs := []error{err}
	if len(c.Signers) == 0 {
		errs = append(errs, errors.New("csrsigning: Signers is empty: give the CA that issues cluster certificates"))
	}
	for name, s := range c.Signers {
		if s.CA == nil || s.Key == nil || s.Duration <= 0 {
			errs = append(errs, fmt.Errorf("csrsigning: signer %s needs a certificate, a key and a duration", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	csrs := parts.Informers.Certificates().V1().CertificateSigningRequests()
	s := &Controller{parts: parts, signers: c.Signers, csrs: csrs.Lister()}
	s.Loop = loop.New("csrsigning", parts, s.sync)
	s.On(csrs.Informer(), loop.Changed(func(r *certs.CertificateSigningRequest) { s.Add(r.Name) }))
	return s, nil
}

func due(r *certs.CertificateSigningRequest) bool {
	approved := false
	for _, c := range r.Status.Conditions {
		switch c.Type {
		case certs.CertificateApproved:
			approved = true
		case certs.CertificateDenied, certs.CertificateFailed:
			return false
		}
	}
	return approved && len(r.Status.Certificate) == 0
}

func (c *Controller) sync(ctx context.Context, name string) error {
	shared, err := c.csrs.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	signer, ours := c.signers[shared.Spec.SignerName]
	if !ours || !due(shared) {
		return nil
	}
	r := shared.DeepCopy()
	now := c.parts.Clock.Now()
	req, err := Parse(r.Spec.Request)
	if err == nil {
		err = Validate(r.Spec.SignerName, req, r.Spec.Usages)
	}
	if err != nil {
		r.Status.Conditions = append(r.Status.Conditions, certs.CertificateSigningRequestCondition{
			Type: certs.CertificateFailed, Status: v1.ConditionTrue, Reason: "SignerValidationFailure", Message: err.Error(),
			LastUpdateTime: metav1.NewTime(now),
		})
	} else if r.Status.Certificate, err = signer.Sign(req, r.Spec.Usages, r.Spec.ExpirationSeconds, now); err != nil {
		return fmt.Errorf("csrsigning: %s: %w", name, err)
	}
	_, err = c.parts.Client.CertificatesV1().CertificateSigningRequests().UpdateStatus(ctx, r, metav1.UpdateOptions{})
	return err
}
