package authn

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
)

// changingRoots are authorities that a test replaces.
type changingRoots struct{ pool *x509.CertPool }

// VerifyOptions implements Roots.
func (r *changingRoots) VerifyOptions() (x509.VerifyOptions, bool) {
	o := x509request.DefaultVerifyOptions()
	o.Roots = r.pool
	return o, r.pool != nil
}

func poolOf(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

// TestKnownCertificates: what was found of a certificate is remembered, and no
// longer than it is true.
//
// Covers: api.authn-x509
func TestKnownCertificates(t *testing.T) {
	ca, caKey, _ := testCA(t, "ca")
	other, _, _ := testCA(t, "other")
	cert := clientCert(t, ca, caKey, pkix.Name{CommonName: "ali", Organization: []string{"dev"}})
	roots := &changingRoots{poolOf(ca)}
	clock := time.Now()
	c := newCertificates(roots)
	c.now = func() time.Time { return clock }
	who := func(certs ...*x509.Certificate) string {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: certs}
		resp, ok, err := c.AuthenticateRequest(r)
		switch {
		case err != nil:
			return "error"
		case !ok:
			return ""
		}
		return resp.User.GetName()
	}
	// A copy whose signature is another, but whose name is the same.
	forged := *cert
	forged.Raw = append([]byte(nil), cert.Raw...)
	forged.Raw[len(forged.Raw)-1] ^= 1
	forged.Signature = append([]byte(nil), cert.Signature...)
	forged.Signature[len(forged.Signature)-1] ^= 1
	for _, step := range []struct {
		name   string
		before func()
		certs  []*x509.Certificate
		want   string
		known  int
	}{
		{"no certificate", nil, nil, "", 0},
		{"a client", nil, []*x509.Certificate{cert}, "ali", 1},
		{"it again", nil, []*x509.Certificate{cert}, "ali", 1},
		{"a forged one", nil, []*x509.Certificate{&forged}, "error", 1},
		{"another authority", func() { roots.pool = poolOf(other) }, []*x509.Certificate{cert}, "error", 0},
		{"the first again", func() { roots.pool = poolOf(other, ca) }, []*x509.Certificate{cert}, "ali", 1},
		{"no authority", func() { roots.pool = nil }, []*x509.Certificate{cert}, "", 1},
	} {
		if step.before != nil {
			step.before()
		}
		if got := who(step.certs...); got != step.want || c.known.Len() != step.known {
			t.Errorf("%s: %q with %d known, want %q with %d", step.name, got, c.known.Len(), step.want, step.known)
		}
	}
	roots.pool = poolOf(ca)
	if got := who(cert); got != "ali" {
		t.Fatal(got)
	}
	for name, at := range map[string]time.Time{"it has ended": cert.NotAfter.Add(time.Second), "it has not begun": cert.NotBefore.Add(-time.Second)} {
		clock = time.Now()
		who(cert)
		if _, ok := c.lookup(roots.pool, sumOf(cert)); !ok {
			t.Error("it is not remembered")
		}
		clock = at
		if _, ok := c.lookup(roots.pool, sumOf(cert)); ok {
			t.Errorf("%s, and it is remembered", name)
		}
	}
}
