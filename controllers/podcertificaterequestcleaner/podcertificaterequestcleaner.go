// Package podcertificaterequestcleaner deletes the requests of kubelets for
// pods' certificates once they are old: the kubelet has long taken what was
// issued, and asks again for what was not.
package podcertificaterequestcleaner

import (
	"context"
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
	period = 5 * time.Minute
	// age is when a request is deleted, whatever became of it.
	age = 15 * time.Minute
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller deletes old requests.
type Controller struct {
	*loop.Loop
	parts    loop.Parts
	requests certlisters.PodCertificateRequestLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("podcertificaterequestcleaner")
	if err != nil {
		return nil, err
	}
	requests := parts.Informers.Certificates().V1().PodCertificateRequests()
	n := &Controller{parts: parts, requests: requests.Lister()}
	n.Loop = loop.New("podcertificaterequestcleaner", parts, func(context.Context, string) error { return nil })
	n.Reads(requests.Informer())
	n.Every(period, n.clean)
	return n, nil
}

// Done says whether the request may be deleted.
func Done(r *certs.PodCertificateRequest, now time.Time) bool {
	return now.Sub(r.CreationTimestamp.Time) >= age
}

func (c *Controller) clean(ctx context.Context) {
	all, err := c.requests.List(labels.Everything())
	if err != nil {
		return
	}
	for _, r := range all {
		if !Done(r, c.parts.Clock.Now()) {
			continue
		}
		err := c.parts.Client.CertificatesV1().PodCertificateRequests(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			klog.FromContext(ctx).Error(err, "Could not delete an old request for a pod's certificate", "request", klog.KObj(r))
		}
	}
}
