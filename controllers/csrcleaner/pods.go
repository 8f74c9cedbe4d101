package csrcleaner

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"

	"skiff/controllers/loop"
)

const (
	podPeriod = 5 * time.Minute
	// podAge is when a request of a kubelet for a pod's certificate is deleted,
	// whatever became of it: the kubelet has long taken what was issued, and asks
	// again for what was not.
	podAge = 15 * time.Minute
)

// NewPods checks the configuration and makes the controller of the requests for
// pods' certificates.
func NewPods(c Config) (*Controller, error) {
	parts, err := c.Complete("podcertificaterequestcleaner")
	if err != nil {
		return nil, err
	}
	requests := parts.Informers.Certificates().V1().PodCertificateRequests()
	n := &Controller{parts: parts, pods: requests.Lister()}
	n.Loop = loop.New("podcertificaterequestcleaner", parts, func(context.Context, string) error { return nil })
	n.Reads(requests.Informer())
	n.Every(podPeriod, n.cleanPods)
	return n, nil
}

func (c *Controller) cleanPods(ctx context.Context) {
	all, err := c.pods.List(labels.Everything())
	if err != nil {
		return
	}
	for _, r := range all {
		if c.parts.Clock.Since(r.CreationTimestamp.Time) < podAge {
			continue
		}
		err := c.parts.Client.CertificatesV1().PodCertificateRequests(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			klog.FromContext(ctx).Error(err, "Could not delete an old request for a pod's certificate", "request", klog.KObj(r))
		}
	}
}
