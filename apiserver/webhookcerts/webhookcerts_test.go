package webhookcerts

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestReason(t *testing.T) {
	named := &x509.Certificate{Subject: pkix.Name{CommonName: "a.example"}}
	for name, tc := range map[string]struct {
		err  error
		want prometheus.Counter
	}{
		"a common name":   {fmt.Errorf("tls: %w", x509.HostnameError{Certificate: named, Host: "a.example"}), MissingSAN},
		"another host":    {x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"b.example"}}, Host: "a.example"}, nil},
		"SHA-1":           {fmt.Errorf("tls: %w", x509.InsecureAlgorithmError(x509.SHA1WithRSA)), SHA1},
		"MD5":             {x509.InsecureAlgorithmError(x509.MD5WithRSA), nil},
		"no connection":   {errors.New("refused"), nil},
		"nobody it knows": {x509.UnknownAuthorityError{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reason(tc.err); got != tc.want {
				t.Errorf("got %v, want %v of %v", got, tc.want, tc.err)
			}
		})
	}
}

type idle struct {
	http.RoundTripper
	closed bool
}

func (i *idle) CloseIdleConnections() { i.closed = true }

func TestIdleConnectionsAreClosed(t *testing.T) {
	under := &idle{}
	(&http.Client{Transport: Counted(under)}).CloseIdleConnections()
	if !under.closed {
		t.Error("the connections stay open")
	}
}
