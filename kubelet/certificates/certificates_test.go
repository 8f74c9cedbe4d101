package certificates_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	core "k8s.io/client-go/testing"

	"skiff/kubelet/certificates"
)

// lifetime is that of the certificates: each is renewed after some 80 % of it.
const lifetime = 4 * time.Second

// authority signs every request.
type authority struct {
	t      *testing.T
	cert   *x509.Certificate
	key    crypto.Signer
	issued atomic.Int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, cert: cert, key: key}
}

// client is an API whose signing requests are approved and signed at once.
func (a *authority) client() (kubernetes.Interface, error) {
	c := fake.NewClientset()
	c.PrependReactor("create", "certificatesigningrequests", func(action core.Action) (bool, runtime.Object, error) {
		r := action.(core.CreateAction).GetObject().(*certificatesv1.CertificateSigningRequest)
		block, _ := pem.Decode(r.Spec.Request)
		asked, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return true, nil, err
		}
		if r.Name == "" {
			r.Name = fmt.Sprintf("csr-%d", a.issued.Load())
		}
		r.Status.Certificate, err = a.sign(asked)
		r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}}
		return err != nil, nil, err
	})
	return c, nil
}

func (a *authority) sign(r *x509.CertificateRequest) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(100 + a.issued.Add(1)), Subject: r.Subject, DNSNames: r.DNSNames, IPAddresses: r.IPAddresses,
		NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(lifetime), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, r.PublicKey, a.key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func runRotator(t *testing.T, r *certificates.Rotator) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// differs asks again and again until there were want different answers.
func differs(t *testing.T, want int, ask func() (string, error)) {
	t.Helper()
	seen := make(map[string]bool)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for end := time.Now().Add(30 * time.Second); len(seen) < want; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("the certificates %v were seen, want %d; the last answer: %v", seen, want, last)
		}
		got, err := ask()
		if last = err; err == nil {
			seen[got] = true
		}
	}
}

// Covers: node.certificates
func TestClientCertificateIsRenewedAndShown(t *testing.T) {
	a := newAuthority(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			http.Error(w, "no certificate", http.StatusUnauthorized)
			return
		}
		// As the API server does: with each request, not only where a connection begins.
		cert := r.TLS.PeerCertificates[0]
		if _, err := cert.Verify(x509.VerifyOptions{Roots: a.pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, "%s %s", cert.Subject.CommonName, cert.SerialNumber)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	defer server.Close()
	r, err := certificates.NewClient(a.client, t.TempDir(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	config, err := r.Dial(&rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	runRotator(t, r)
	differs(t, 3, func() (string, error) {
		resp, err := client.Get(server.URL)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		var user, serial string
		if resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("status %s", resp.Status)
		}
		_, err = fmt.Fscan(resp.Body, &user, &serial)
		if user != "system:node:n1" {
			t.Errorf("the user is %q", user)
		}
		return serial, err
	})
}

// Covers: node.certificates
func TestServingCertificateIsRenewedAndShown(t *testing.T) {
	a := newAuthority(t)
	r, err := certificates.NewServer(a.client, t.TempDir(), "n1", func() []corev1.NodeAddress {
		return []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: r.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	defer func() {
		server.Close()
		<-ended
	}()
	runRotator(t, r)
	differs(t, 3, func() (string, error) {
		d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: &tls.Config{RootCAs: a.pool()}}
		conn, err := d.DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			return "", err
		}
		defer conn.Close()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
	})
}

// A node that gets an address has it in its certificate, without a restart.
//
// Covers: node.certificates
func TestServingCertificateFollowsAddresses(t *testing.T) {
	a := newAuthority(t)
	var addresses atomic.Pointer[[]corev1.NodeAddress]
	has := []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeHostName, Address: "n1"}}
	addresses.Store(&has)
	r, err := certificates.NewServer(a.client, t.TempDir(), "n1", func() []corev1.NodeAddress { return *addresses.Load() })
	if err != nil {
		t.Fatal(err)
	}
	runRotator(t, r)
	shows := func(want ...string) {
		t.Helper()
		var got []string
		if wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
			c, err := r.GetCertificate(nil)
			if err != nil {
				return false, nil
			}
			leaf, err := x509.ParseCertificate(c.Certificate[0])
			if err != nil {
				return false, err
			}
			got = append([]string(nil), leaf.DNSNames...)
			for _, ip := range leaf.IPAddresses {
				got = append(got, ip.String())
			}
			return cmp.Equal(want, got), nil
		}) == nil {
			return
		}
		t.Fatalf("certificate (-want +got):\n%s", cmp.Diff(want, got))
	}
	shows("n1", "192.0.2.1")
	more := append(has[:1:1], corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "2001:db8::1"},
		corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "198.51.100.7"}, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "192.0.2.1"},
		corev1.NodeAddress{Type: corev1.NodeExternalDNS, Address: "n1.example.com"}, has[1])
	addresses.Store(&more)
	shows("n1", "192.0.2.1", "2001:db8::1", "198.51.100.7")
}
