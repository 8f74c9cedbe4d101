package conformance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/e2e/harness"
)

// behind is an HTTPS server of the test behind a service of its namespace.
type behind struct {
	service string
	ca      []byte
}

// serve answers for a service with a certificate for its name.
func (s *space) serve(service string, h http.Handler) behind {
	s.t.Helper()
	return s.serveAsking(service, h, tls.NoClientCert)
}

// serveAsking may ask clients for a certificate.
func (s *space) serveAsking(service string, h http.Handler, ask tls.ClientAuthType) behind {
	s.t.Helper()
	cert, ca := s.certificate(service + "." + s.name + ".svc")
	l, err := net.Listen("tcp", harness.HostAddress+":0")
	s.must(err)
	server := &http.Server{Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: ask}, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(l, "", "") }()
	s.t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	_, text, err := net.SplitHostPort(l.Addr().String())
	s.must(err)
	port, err := strconv.Atoi(text)
	s.must(err)
	_, err = s.client.CoreV1().Services(s.name).Create(s.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: service},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 8443}}},
	}, metav1.CreateOptions{})
	s.must(err)
	_, err = s.client.DiscoveryV1().EndpointSlices(s.name).Create(s.ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service + "-test", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(""), Port: ptr.To(int32(port))}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{harness.HostAddress}}},
	}, metav1.CreateOptions{})
	s.must(err)
	return behind{service, ca}
}

// certificate is one for a host name, and its authority.
func (s *space) certificate(host string) (tls.Certificate, []byte) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	s.must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// judge answers a review; nil allows.
type judge func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse

// hooks are webhooks of the test, by path.
type hooks struct {
	behind
	s *space
}

// markerLabel is on the objects that tell when a configuration is in force.
const markerLabel = "test-marker"

// markerAnswer is what /marker says. Nothing else that fails on the way says so.
const markerAnswer = "the marker is refused"

// hooks serves webhooks. /marker refuses everything; webhooks that take long to
// answer wait themselves.
func (s *space) hooks(judges map[string]judge) *hooks {
	s.t.Helper()
	b := s.serve("hook", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, fmt.Sprintf("no review: %v", err), http.StatusBadRequest)
			return
		}
		answer := &admissionv1.AdmissionResponse{Allowed: true}
		if r.URL.Path == "/marker" {
			answer = deny(markerAnswer)
		} else if j := judges[r.URL.Path]; j == nil {
			answer = deny("no such webhook " + r.URL.Path)
		} else if a := j(review.Request); a != nil {
			answer = a
		}
		answer.UID = review.Request.UID
		review.Request, review.Response = nil, answer
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review) // the server may have given up
	}))
	return &hooks{behind: b, s: s}
}

func deny(message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: message}}
}

// patch is an answer that changes the object by JSON patch operations.
func patch(operations string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(operations), PatchType: ptr.To(admissionv1.PatchTypeJSONPatch)}
}

func (h *hooks) client(path string) registrationv1.WebhookClientConfig {
	return registrationv1.WebhookClientConfig{CABundle: h.ca, Service: &registrationv1.ServiceReference{
		Namespace: h.s.name, Name: h.service, Path: &path, Port: ptr.To[int32](8443),
	}}
}

// rule is one of resources in a group's version v1, or whichever follows a colon.
func rule(group, resource string, operations ...registrationv1.OperationType) registrationv1.RuleWithOperations {
	version := "v1"
	if g, v, ok := strings.Cut(group, ":"); ok {
		group, version = g, v
	}
	return registrationv1.RuleWithOperations{Operations: operations, Rule: registrationv1.Rule{
		APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource},
	}}
}

// inSpace selects the test's namespace.
func (s *space) inSpace() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.name}}
}

// validating is a webhook for objects of the test's namespace.
func (h *hooks) validating(name, path string, rules ...registrationv1.RuleWithOperations) registrationv1.ValidatingWebhook {
	return registrationv1.ValidatingWebhook{
		Name: name + ".example.com", Rules: rules, ClientConfig: h.client(path), NamespaceSelector: h.s.inSpace(),
		SideEffects: ptr.To(registrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1", "v1beta1"}, TimeoutSeconds: ptr.To[int32](10),
	}
}

// mutating is a webhook for objects of the test's namespace.
func (h *hooks) mutating(name, path string, rules ...registrationv1.RuleWithOperations) registrationv1.MutatingWebhook {
	v := h.validating(name, path, rules...)
	return registrationv1.MutatingWebhook{
		Name: v.Name, Rules: v.Rules, ClientConfig: v.ClientConfig, NamespaceSelector: v.NamespaceSelector,
		SideEffects: v.SideEffects, AdmissionReviewVersions: v.AdmissionReviewVersions, TimeoutSeconds: v.TimeoutSeconds,
	}
}

// validate registers validating webhooks and waits until they are in force.
func (h *hooks) validate(name string, webhooks ...registrationv1.ValidatingWebhook) *registrationv1.ValidatingWebhookConfiguration {
	h.s.t.Helper()
	marker := h.validating("marker", "/marker", rule("", "configmaps", registrationv1.Create))
	marker.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{markerLabel: name}}
	c := h.s.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	out, err := c.Create(h.s.ctx, &registrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: h.s.name + "-" + name, Labels: map[string]string{"test": h.s.name}},
		Webhooks:   append(webhooks, marker),
	}, metav1.CreateOptions{})
	h.s.must(err)
	h.s.later("delete the configuration", func(ctx context.Context) error { return c.Delete(ctx, out.Name, metav1.DeleteOptions{}) })
	h.inForce(name)
	return out
}

// mutate registers mutating webhooks and waits until they are in force.
func (h *hooks) mutate(name string, webhooks ...registrationv1.MutatingWebhook) *registrationv1.MutatingWebhookConfiguration {
	h.s.t.Helper()
	marker := h.mutating("marker", "/marker", rule("", "configmaps", registrationv1.Create))
	marker.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{markerLabel: name}}
	c := h.s.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	out, err := c.Create(h.s.ctx, &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: h.s.name + "-" + name, Labels: map[string]string{"test": h.s.name}},
		Webhooks:   append(webhooks, marker),
	}, metav1.CreateOptions{})
	h.s.must(err)
	h.s.later("delete the configuration", func(ctx context.Context) error { return c.Delete(ctx, out.Name, metav1.DeleteOptions{}) })
	h.inForce(name)
	return out
}

func (h *hooks) inForce(name string) {
	h.s.t.Helper()
	h.s.eventually(30*time.Second, "the webhooks "+name+" are in force", func() error {
		_, err := h.s.client.CoreV1().ConfigMaps(h.s.name).Create(h.s.ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "marker", Labels: map[string]string{markerLabel: name}},
		}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil || !strings.Contains(err.Error(), markerAnswer) {
			return fmt.Errorf("a marker was taken: %v", err)
		}
		return nil
	})
}

// configMap makes one with data, and answers what the server did.
func (s *space) configMap(name string, data map[string]string) (*corev1.ConfigMap, error) {
	return s.client.CoreV1().ConfigMaps(s.name).Create(s.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
}

// denied complains unless an error has a text.
func (s *space) denied(what string, err error, text string) {
	s.t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		s.t.Errorf("%s: error %v, want %q", what, err, text)
	}
}
