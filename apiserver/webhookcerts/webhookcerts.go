// Package webhookcerts counts the webhooks whose certificates clients no longer
// take: those that name their server nowhere but in the common name, and those
// signed with SHA-1.
package webhookcerts

import (
	"crypto/x509"
	"errors"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// The counts of the process, whoever asks the webhooks.
var (
	MissingSAN = counter("apiserver_webhooks_x509_missing_san_total", "Requests to webhooks whose certificate has no subject alternative name.")
	SHA1       = counter("apiserver_webhooks_x509_insecure_sha1_total", "Requests to webhooks whose certificate is signed with SHA-1.")
)

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

// Counted is a transport whose refused certificates are counted.
func Counted(rt http.RoundTripper) http.RoundTripper { return counted{rt} }

type counted struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if err != nil {
		if n := reason(err); n != nil {
			n.Inc()
		}
	}
	return resp, err
}

// CloseIdleConnections lets a client close those of the transport.
func (c counted) CloseIdleConnections() {
	if t, ok := c.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// reason is the count of what is wrong with a certificate; nil is neither.
func reason(err error) prometheus.Counter {
	if host := (x509.HostnameError{}); errors.As(err, &host) && strings.Contains(err.Error(), "certificate relies on legacy Common Name field") {
		return MissingSAN
	}
	if _, ok := errors.AsType[x509.InsecureAlgorithmError](err); ok && strings.Contains(err.Error(), "SHA1") {
		return SHA1
	}
	return nil
}
