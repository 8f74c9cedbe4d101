package connect

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
)

// kubeletPort is where a kubelet listens when its node does not say.
const kubeletPort = 10250

// Dialer reaches kubelets.
type Dialer struct {
	// TLS presents the server's client certificate and verifies the kubelet's;
	// nil does neither.
	TLS *tls.Config
	// Nodes are the known nodes; Client answers where the cache is behind.
	Nodes  corelisters.NodeLister
	Client kubernetes.Interface
	// AddressTypes in order of preference; default InternalIP, ExternalIP, Hostname.
	AddressTypes []corev1.NodeAddressType
	Log          *slog.Logger

	once            sync.Once
	kubelets, plain *http.Transport
}

// transports makes the transports at first use.
func (d *Dialer) transports() (kubelets, plain *http.Transport) {
	d.once.Do(func() {
		config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
		if d.TLS != nil {
			config = d.TLS.Clone()
		}
		// Streams are upgraded connections, which only HTTP/1.1 has.
		config.NextProtos = []string{"http/1.1"}
		d.kubelets = newTransport(config)
		// What pods and services present is theirs to choose, as for any client of
		// a proxy that was given an https: name.
		d.plain = newTransport(&tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	})
	return d.kubelets, d.plain
}

func (d *Dialer) kubeletTransport() *http.Transport {
	t, _ := d.transports()
	return t
}

func (d *Dialer) plainTransport() *http.Transport {
	_, t := d.transports()
	return t
}

func newTransport(config *tls.Config) *http.Transport {
	dial := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		DialContext: dial.DialContext, TLSClientConfig: config, TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 8, DisableCompression: true,
	}
}

// Close ends idle connections.
func (d *Dialer) Close() {
	d.kubeletTransport().CloseIdleConnections()
	d.plainTransport().CloseIdleConnections()
}

// Kubelet is the base URL of a node's kubelet.
func (d *Dialer) Kubelet(ctx context.Context, node string) (*url.URL, error) {
	n, err := d.node(ctx, node)
	if err != nil {
		return nil, err
	}
	host, err := d.address(n)
	if err != nil {
		return nil, err
	}
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(portOf(n)))}, nil
}

// Transport reaches kubelets with the server's certificate. It follows no redirect.
func (d *Dialer) Transport() http.RoundTripper { return d.kubeletTransport() }

func (d *Dialer) node(ctx context.Context, name string) (*corev1.Node, error) {
	n, err := d.Nodes.Get(name)
	if err == nil || d.Client == nil {
		return n, err
	}
	return d.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
}

func portOf(n *corev1.Node) int {
	if p := n.Status.DaemonEndpoints.KubeletEndpoint.Port; p > 0 {
		return int(p)
	}
	return kubeletPort
}

func (d *Dialer) address(n *corev1.Node) (string, error) {
	kinds := d.AddressTypes
	if len(kinds) == 0 {
		kinds = []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName}
	}
	for _, kind := range kinds {
		for _, a := range n.Status.Addresses {
			if a.Type == kind && a.Address != "" {
				return a.Address, nil
			}
		}
	}
	return "", apierrors.NewInternalError(fmt.Errorf("no preferred addresses found; known addresses: %v", n.Status.Addresses))
}
