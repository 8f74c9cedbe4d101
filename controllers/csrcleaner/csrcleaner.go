// Package csrcleaner deletes certificate signing requests that have served
// their purpose, or never will.
package csrcleaner

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"time"

	certs "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	certlisters "k8s.io/client-go/listers/certificates/v1"
	"k8s.io/klog/v2"

	"skiff/controllers/loop"
)

const (
	period  = 10 * time.Minute
	decided = time.Hour
	pending = 24 * time.Hour
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller deletes old requests.
type Controller struct {
	*loop.Loop
	parts loop.Parts
	csrs  certlisters.CertificateSigningRequestLister
	pods  certlisters.PodCertificateRequestLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("csrcleaner")
	if err != nil {
		return nil, err
	}
	csrs := parts.Informers.Certificates().V1().CertificateSigningRequests()
	n := &Controller{parts: parts, csrs: csrs.Lister()}
	n.Loop = loop.New("csrcleaner", parts, func(context.Context, string) error { return nil })
	n.Reads(csrs.Informer())
	n.Every(period, n.clean)
	return n, nil
}

// Done says whether the request may be deleted.
func Done(r *certs.CertificateSigningRequest, now time.Time) bool {
	if block, _ := pem.Decode(r.Status.Certificate); block != nil {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && now.After(cert.NotAfter) {
			return true
		}
	}
	if len(r.Status.Conditions) == 0 {
		return now.Sub(r.CreationTimestamp.Time) > pending
	}
	for _, c := range r.Status.Conditions {
		old := now.Sub(c.LastUpdateTime.Time) > decided
		switch c.Type {
		case certs.CertificateApproved:
			// Approved but never issued still waits for its signer.
			if old && len(r.Status.Certificate) > 0 {
				return true
			}
			if now.Sub(c.LastUpdateTime.Time) > pending {
				return true
			}
		case certs.CertificateDenied, certs.CertificateFailed:
			if old {
				return true
			}
		}
	}
	return false
}

func (c *Controller) clean(ctx context.Context) {
	all, err := c.csrs.List(labels.Everything())
	if err != nil {
		return
	}
	for _, r := range all {
		if !Done(r, c.parts.Clock.Now()) {
			continue
		}
		err := c.parts.Client.CertificatesV1().CertificateSigningRequests().Delete(ctx, r.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			klog.FromContext(ctx).Error(err, "Could not delete an old signing request", "csr", r.Name)
		}
	}
}
