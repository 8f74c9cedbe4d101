package apiserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
	"skiff/cluster/pki"
)

// TestKubeletsAreVerified reaches kubelets that show different certificates: only
// one that the cluster's authority has signed, for the address that is dialled, is
// spoken to.
//
// Covers: api.kubelet-tls
func TestKubeletsAreVerified(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certs := filepath.Join(dir, "pki")
	if err := pki.Ensure(certs, pki.Config{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.LoadCA(filepath.Join(certs, "ca.crt"), filepath.Join(certs, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	s := apiservertest.StartIn(t, dir, func(c *apiserver.Config) {
		c.KubeletTLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	})
	signed := func(usage x509.ExtKeyUsage, ips ...net.IP) *tls.Certificate {
		cert, key, err := ca.Issue(pki.Leaf{CommonName: "system:node:n", Organization: []string{"system:nodes"}, IPs: ips, Usages: []x509.ExtKeyUsage{usage}},
			pki.Algorithms()[0], time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return &pair
	}
	here := net.IPv4(127, 0, 0, 1)
	for _, tc := range []struct {
		name string
		cert *tls.Certificate // nil is one of its own
		want string
	}{
		{"signed", signed(x509.ExtKeyUsageServerAuth, here), ""},
		{"own", nil, "certificate signed by unknown authority"},
		{"elsewhere", signed(x509.ExtKeyUsageServerAuth, net.IPv4(192, 0, 2, 7)), "certificate is valid for 192.0.2.7, not 127.0.0.1"},
		{"client", signed(x509.ExtKeyUsageClientAuth, here), "incompatible key usage"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked := false
			kubelet := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked = true
				_, _ = io.WriteString(w, "a line\n") // the client is gone when this fails
			}))
			if tc.cert != nil {
				kubelet.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*tc.cert}}
			}
			kubelet.StartTLS()
			t.Cleanup(kubelet.Close)
			port := kubelet.Listener.Addr().(*net.TCPAddr).Port
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: tc.name}}
			node, err := s.Client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: here.String()}}
			node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
			if _, err := s.Client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			var a apiservertest.Answer
			within(t, "the node's address is known", func() bool {
				a = s.Call(t, "GET", "/api/v1/nodes/"+tc.name+"/proxy/logs/", "")
				return !strings.Contains(string(a.Body), "no preferred addresses") && a.Code != http.StatusNotFound
			})
			if tc.want == "" {
				if a.Code != http.StatusOK || string(a.Body) != "a line\n" {
					t.Errorf("%d %s", a.Code, a.Body)
				}
				return
			}
			if a.Code < 500 || !strings.Contains(string(a.Body), tc.want) || asked {
				t.Errorf("%d %s, the kubelet was asked: %v; want %s", a.Code, a.Body, asked, tc.want)
			}
		})
	}
}
