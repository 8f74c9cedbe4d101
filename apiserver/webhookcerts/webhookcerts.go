// Package webhookcerts counts the webhooks whose certificates clients no longer
// take: those that name their server nowhere but in the common name, and those
// signed with SHA-1.
package webhookcerts

import (
	"net/http"

	"k8s.io/apiserver/pkg/util/x509metrics"
	"k8s.io/component-base/metrics"
)

var (
	missingSAN = counter("apiserver_webhooks_x509_missing_san_total", "Requests to webhooks whose certificate has no subject alternative name.")
	sha1       = counter("apiserver_webhooks_x509_insecure_sha1_total", "Requests to webhooks whose certificate is signed with SHA-1.")

	// Registry has the counts of the process, whoever asks the webhooks.
	Registry = newRegistry()
)

func counter(name, help string) *metrics.Counter {
	return metrics.NewCounter(&metrics.CounterOpts{Name: name, Help: help, StabilityLevel: metrics.BETA})
}

func newRegistry() metrics.KubeRegistry {
	r := metrics.NewKubeRegistry()
	r.MustRegister(missingSAN, sha1)
	return r
}

// Counted is a transport whose requests are counted.
func Counted(rt http.RoundTripper) http.RoundTripper {
	return x509metrics.NewDeprecatedCertificateRoundTripperWrapperConstructor(missingSAN, sha1)(rt)
}
