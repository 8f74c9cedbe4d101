// Package csrapproving approves the requests of kubelets for their client and
// serving certificates, where the API says that the asker may have one.
package csrapproving

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"

	authorization "k8s.io/api/authorization/v1"
	certs "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	certlisters "k8s.io/client-go/listers/certificates/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	netlisters "k8s.io/client-go/listers/networking/v1"

	"skiff/controllers/csrsigning"
	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller approves requests.
type Controller struct {
	*loop.Loop
	parts loop.Parts
	csrs  certlisters.CertificateSigningRequestLister

	nodes  corelisters.NodeLister
	slices discoverylisters.EndpointSliceLister
	ranges netlisters.ServiceCIDRLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("csrapproving")
	if err != nil {
		return nil, err
	}
	csrs := parts.Informers.Certificates().V1().CertificateSigningRequests()
	a := &Controller{
		parts: parts, csrs: csrs.Lister(), nodes: parts.Informers.Core().V1().Nodes().Lister(),
		slices: parts.Informers.Discovery().V1().EndpointSlices().Lister(), ranges: parts.Informers.Networking().V1().ServiceCIDRs().Lister(),
	}
	a.Loop = loop.New("csrapproving", parts, a.sync)
	a.On(csrs.Informer(), loop.Changed(func(r *certs.CertificateSigningRequest) { a.Add(r.Name) }))
	return a, nil
}

// Right is a permission that lets a request be approved.
type Right struct {
	Subresource string
	Message     string
}

// Rights lists the permissions that would do for the request; none when it is
// not a kubelet's.
func Rights(r *certs.CertificateSigningRequest, req *x509.CertificateRequest) []Right {
	if r.Spec.SignerName != certs.KubeAPIServerClientKubeletSignerName || csrsigning.ValidateKubeletClient(req, r.Spec.Usages) != nil {
		return nil
	}
	var out []Right
	if r.Spec.Username == req.Subject.CommonName {
		out = append(out, Right{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."})
	}
	return append(out, Right{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."})
}

func (c *Controller) sync(ctx context.Context, name string) error {
	r, err := c.csrs.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(r.Status.Certificate) != 0 {
		return nil
	}
	for _, cond := range r.Status.Conditions {
		if cond.Type == certs.CertificateApproved || cond.Type == certs.CertificateDenied {
			return nil
		}
	}
	req, err := csrsigning.Parse(r.Spec.Request)
	if err != nil {
		return fmt.Errorf("csrapproving: unable to parse csr %q: %w", name, err)
	}
	rights := Rights(r, req)
	known, err := c.known()
	if err != nil {
		return err
	}
	if is, why := Serving(r, req, known); is {
		if why != nil {
			// The node's addresses and labels may still come.
			if young(r, c.parts.Clock.Now()) {
				c.AddAfter(name, soon)
				return nil
			}
			return fmt.Errorf("csr %q for a serving certificate is left to a person: %w", name, why)
		}
		rights = []Right{{"selfnodeserver", "Auto approving self kubelet server certificate after SubjectAccessReview."}}
	}
	for _, right := range rights {
		ok, err := c.allowed(ctx, r, right.Subresource)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		next := r.DeepCopy()
		next.Status.Conditions = append(next.Status.Conditions, certs.CertificateSigningRequestCondition{
			Type: certs.CertificateApproved, Status: v1.ConditionTrue, Reason: "AutoApproved", Message: right.Message,
			LastUpdateTime: metav1.NewTime(c.parts.Clock.Now()),
		})
		_, err = c.parts.Client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, name, next, metav1.UpdateOptions{})
		return err
	}
	if len(rights) > 0 {
		// A binding may still come: the role bindings of a join are made late.
		if young(r, c.parts.Clock.Now()) {
			c.AddAfter(name, soon)
			return nil
		}
		return fmt.Errorf("recognized csr %q as %s but subject access review was not approved", name, rights[0].Subresource)
	}
	return nil
}

// A request that is younger than patience is looked at again soon, and nothing is
// said: what it waits for is often made in these seconds.
const (
	patience = 10 * time.Second
	soon     = 200 * time.Millisecond
)

func young(r *certs.CertificateSigningRequest, now time.Time) bool {
	return now.Sub(r.CreationTimestamp.Time) < patience
}

func (c *Controller) known() (Known, error) {
	var k Known
	var err error
	if k.Nodes, err = c.nodes.List(labels.Everything()); err != nil {
		return k, err
	}
	if k.Servers, err = c.slices.EndpointSlices(metav1.NamespaceDefault).List(labels.SelectorFromSet(labels.Set{discovery.LabelServiceName: "kubernetes"})); err != nil {
		return k, err
	}
	list, err := c.ranges.List(labels.Everything())
	if err != nil {
		return k, err
	}
	for _, r := range list {
		for _, text := range r.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil {
				k.Services = append(k.Services, p)
			}
		}
	}
	return k, nil
}

func (c *Controller) allowed(ctx context.Context, r *certs.CertificateSigningRequest, subresource string) (bool, error) {
	extra := make(map[string]authorization.ExtraValue, len(r.Spec.Extra))
	for k, v := range r.Spec.Extra {
		extra[k] = authorization.ExtraValue(v)
	}
	review, err := c.parts.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorization.SubjectAccessReview{
		Spec: authorization.SubjectAccessReviewSpec{
			User: r.Spec.Username, UID: r.Spec.UID, Groups: r.Spec.Groups, Extra: extra,
			ResourceAttributes: &authorization.ResourceAttributes{
				Group: certs.GroupName, Resource: "certificatesigningrequests", Verb: "create", Subresource: subresource, Version: "*",
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}
