package main

import (
	"context"
	"crypto/tls"
	"path/filepath"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/kubelet/certificates"
)

// serving is where the kubelet's serving certificate comes from. With none of its
// own (get is nil) the kubelet signs one itself, or reads the files of its configuration.
type serving struct {
	get func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	run func(context.Context) error
}

// nodeAddresses are the node's addresses, as its object last told of them.
type nodeAddresses struct {
	list atomic.Pointer[[]corev1.NodeAddress]
}

// newNodeAddresses has those that the node is to have, for before it has an object.
func newNodeAddresses(ips []string) *nodeAddresses {
	var own []corev1.NodeAddress
	for _, ip := range ips {
		own = append(own, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	a := &nodeAddresses{}
	a.list.Store(&own)
	return a
}

func (a *nodeAddresses) set(n *corev1.Node) {
	if len(n.Status.Addresses) > 0 {
		a.list.Store(&n.Status.Addresses)
	}
}

func (a *nodeAddresses) get() []corev1.NodeAddress { return *a.list.Load() }

// servingCertificate asks the cluster for the certificate and renews it, where
// serverTLSBootstrap says so.
func servingCertificate(l layout.Layout, c *node.Config, conf *kubeletv1beta1.KubeletConfiguration, kube kubernetes.Interface, addresses *nodeAddresses) (serving, error) {
	if !conf.ServerTLSBootstrap || conf.TLSCertFile != "" {
		return serving{run: func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		}}, nil
	}
	r, err := certificates.NewServer(func() (kubernetes.Interface, error) { return kube, nil }, filepath.Join(l.Kubelet(), "pki"), c.Name, addresses.get)
	if err != nil {
		return serving{}, err
	}
	return serving{get: r.GetCertificate, run: r.Run}, nil
}

// rotating makes the kubelet's requests present a client certificate that is
// renewed while it runs, where rotateCertificates says so.
func rotating(l layout.Layout, c *node.Config, conf *kubeletv1beta1.KubeletConfiguration, api *rest.Config) (*rest.Config, []part, error) {
	if !conf.RotateCertificates || api.CertFile == "" {
		return api, nil, nil
	}
	out := api
	r, err := certificates.NewClient(func() (kubernetes.Interface, error) { return kubernetes.NewForConfig(out) }, filepath.Join(l.Kubelet(), "pki"), c.Name)
	if err != nil {
		return nil, nil, err
	}
	if out, err = r.Dial(api); err != nil {
		return nil, nil, err
	}
	return out, []part{{"client certificate", false, r.Run}}, nil
}
