package apiserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	aggregatorv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"skiff/apiserver"
	"skiff/cluster/pki"
)

// TestAggregation hands requests of a group version on to another server.
//
// Covers: api.aggregation
func TestAggregation(t *testing.T) {
	now := time.Now()
	ca, err := pki.NewCA("other", pki.Algorithms()[0], now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(l pki.Leaf) tls.Certificate {
		certPEM, keyPEM, err := ca.Issue(l, pki.Algorithms()[0], now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		c, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	serving := issue(pki.Leaf{CommonName: "other", DNSNames: []string{"other.default.svc"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	proxy := issue(pki.Leaf{CommonName: "front-proxy-client", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != "front-proxy-client" {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/apis/other.example.com/v1":
			_, _ = io.WriteString(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"other.example.com/v1","resources":[{"name":"things","singularName":"thing","namespaced":true,"kind":"Thing","verbs":["get","list"]},{"name":"things/status","namespaced":true,"kind":"Thing","verbs":["get"]}]}`)
		case "/openapi/v3/apis/other.example.com/v1":
			_, _ = io.WriteString(w, `{"openapi":"3.0.0","info":{"title":"other","version":"1"},"paths":{}}`)
		case "/openapi/v2":
			_, _ = io.WriteString(w, `{"swagger":"2.0","info":{"title":"other","version":"1"},"paths":{"/apis/other.example.com/v1/things":{"get":{"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/com.example.Thing"}}}}}},"definitions":{"com.example.Thing":{"type":"object"}}}`)
		case "/apis/other.example.com/v1/namespaces/default/things/redirect":
			http.Redirect(w, r, "https://example.com/", http.StatusFound)
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{ // the client is gone when this fails
				"kind": "Thing", "apiVersion": "other.example.com/v1", "user": r.Header.Get("X-Remote-User"),
				"groups": r.Header.Values("X-Remote-Group"), "token": r.Header.Get("Authorization"),
			})
		}
	}))
	other.TLS = &tls.Config{Certificates: []tls.Certificate{serving}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	other.StartTLS()
	defer other.Close()

	r := start(t, func(c *apiserver.Config) {
		c.ProxyClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &proxy, nil }
	})
	e := &extended{running: r, dyn: dynamic.NewForConfigOrDie(r.admin)}
	ctx := t.Context()
	client := aggregatorclient.NewForConfigOrDie(r.admin).ApiregistrationV1().APIServices()
	available := func(name string, want aggregatorv1.ConditionStatus, reason string) func() bool {
		return func() bool {
			s, err := client.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false
			}
			c := helper.GetAPIServiceConditionByType(s, aggregatorv1.Available)
			return c != nil && c.Status == want && c.Reason == reason
		}
	}

	t.Run("local", func(t *testing.T) {
		for _, name := range []string{"v1.", "v1.apps", "v2.autoscaling"} {
			eventually(t, available(name, aggregatorv1.ConditionTrue, "Local"))
		}
		s, err := client.Get(ctx, "v1.apps", metav1.GetOptions{})
		if err != nil || s.Spec.GroupPriorityMinimum != 17800 || s.Spec.VersionPriority != 15 || s.Labels["kube-aggregator.kubernetes.io/automanaged"] != "onstart" {
			t.Errorf("%+v, %v", s, err)
		}
	})

	port, err := strconv.Atoi(other.URL[strings.LastIndexByte(other.URL, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	s := &aggregatorv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.other.example.com"}, Spec: aggregatorv1.APIServiceSpec{
		Group: "other.example.com", Version: "v1", GroupPriorityMinimum: 2000, VersionPriority: 10, CABundle: pki.EncodeCert(ca.Cert),
		Service: &aggregatorv1.ServiceReference{Namespace: "default", Name: "other", Port: ptr(int32(port))},
	}}
	if _, err := client.Create(ctx, s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, available(s.Name, aggregatorv1.ConditionFalse, "ServiceNotFound"))
	things := e.dyn.Resource(schema.GroupVersionResource{Group: "other.example.com", Version: "v1", Resource: "things"}).Namespace("default")
	if _, err := things.Get(ctx, "a", metav1.GetOptions{}); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("a server that is not there: %v", err)
	}
	if _, err := r.client.CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "other"},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, available(s.Name, aggregatorv1.ConditionTrue, "Passed"))

	t.Run("requests", func(t *testing.T) {
		var got *unstructured.Unstructured
		eventually(t, func() bool { // the route follows the condition
			got, err = things.Get(ctx, "a", metav1.GetOptions{})
			return err == nil
		})
		want := map[string]any{
			"kind": "Thing", "apiVersion": "other.example.com/v1", "user": "admin", "groups": []any{"system:masters", "system:authenticated"}, "token": "",
		}
		if diff := cmp.Diff(want, got.Object); diff != "" {
			t.Error(diff)
		}
		if _, err := things.Get(ctx, "redirect", metav1.GetOptions{}); err == nil {
			t.Error("a redirect was followed")
		}
	})
	t.Run("discovery", func(t *testing.T) {
		eventually(t, func() bool {
			_, lists, err := r.client.Discovery().ServerGroupsAndResources()
			return err == nil && slices.ContainsFunc(lists, func(l *metav1.APIResourceList) bool {
				return l.GroupVersion == "other.example.com/v1" && len(l.APIResources) == 2 && l.APIResources[0].Kind == "Thing"
			})
		})
		b, _ := e.raw(t, "/openapi/v3/apis/other.example.com/v1", "application/json")
		if !strings.Contains(string(b), `"title":"other"`) {
			t.Errorf("openapi %s", b)
		}
		b, _ = e.raw(t, "/openapi/v2", "application/json")
		if !strings.Contains(string(b), `"com.example.Thing":{"type":"object"}`) || !strings.Contains(string(b), `"/apis/other.example.com/v1/things":{`) {
			t.Errorf("openapi v2 of %d bytes lacks the other server's part", len(b))
		}
	})
	t.Run("end", func(t *testing.T) {
		if err := client.Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool {
			_, err := things.Get(ctx, "a", metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
	})
}
