package apiserver_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	admissionv1 "k8s.io/api/admission/v1"
	arv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
	"skiff/apiserver/tracing"
)

// spans is an OpenTelemetry collector.
type spans struct {
	collector.UnimplementedTraceServiceServer

	mu   sync.Mutex
	list []*tracev1.Span
}

// Export implements collector.TraceServiceServer.
func (s *spans) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, res := range r.ResourceSpans {
		for _, scope := range res.ScopeSpans {
			s.list = append(s.list, scope.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// of are the spans of a trace by name.
func (s *spans) of(trace string) map[string]*tracev1.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]*tracev1.Span{}
	for _, sp := range s.list {
		if fmt.Sprintf("%x", sp.TraceId) == trace {
			out[sp.Name] = sp
		}
	}
	return out
}

func collect(t *testing.T) (*spans, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, c := grpc.NewServer(), &spans{}
	collector.RegisterTraceServiceServer(s, c)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c, l.Addr().String()
}

// A request of an administrator that is traced goes on being traced here: the
// request, the webhook, which learns of it, and the database are spans of the
// client's trace. Others cannot have their requests traced by saying so.
//
// Covers: api.introspection
func TestTracing(t *testing.T) {
	c, address := collect(t)
	file := filepath.Join(t.TempDir(), "tracing.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nendpoint: "+address+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := apiservertest.Start(t, func(c *apiserver.Config) { c.TracingConfigFile = file })
	namespace(t, s.Client, "traced")
	told := make(chan string, 10)
	hook := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var rev admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&rev); err != nil {
			t.Error(err)
			return
		}
		if rev.Request.Name == "of-admin" {
			told <- r.Header.Get("Traceparent")
		}
		rev.Response = &admissionv1.AdmissionResponse{UID: rev.Request.UID, Allowed: true}
		_ = json.NewEncoder(w).Encode(rev) // the server has gone when this fails
	}))
	defer hook.Close()
	conf := &arv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Webhooks: []arv1.ValidatingWebhook{{
		Name: "v.example.com", SideEffects: ptr(arv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
		Rules:        []arv1.RuleWithOperations{{Operations: []arv1.OperationType{arv1.Create}, Rule: arv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}}}},
		ClientConfig: arv1.WebhookClientConfig{URL: ptr(hook.URL), CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})},
	}}}
	if _, err := s.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), conf, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const trace, theirs = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319d"
	const maps = "/api/v1/namespaces/traced/configmaps"
	var parent string
	within(t, "the webhook is told", func() bool {
		s.Call(t, "DELETE", maps+"/of-admin", "")
		if a := s.Call(t, "POST", maps, `{"metadata":{"name":"of-admin"}}`, "Content-Type", "application/json", "Traceparent", "00-"+trace+"-b7ad6b7169203331-01"); a.Code != 201 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		select {
		case parent = <-told:
			return true
		default:
			return false
		}
	})
	if !strings.HasPrefix(parent, "00-"+trace+"-") || !strings.HasSuffix(parent, "-01") || strings.Contains(parent, "b7ad6b7169203331") {
		t.Errorf("the webhook was told %q", parent)
	}
	s.CallAs(t, s.Plain, "GET", maps, "", "Traceparent", "00-"+theirs+"-b7ad6b7169203331-01")
	s.Stop() // sends what is left
	const request = "POST /api/v1/namespaces/{:namespace}/configmaps"
	got := c.of(trace)
	root := got[request]
	if root == nil || fmt.Sprintf("%x", root.ParentSpanId) != "b7ad6b7169203331" || root.Kind != tracev1.Span_SPAN_KIND_SERVER {
		t.Fatalf("no span of the request below the client's in %v", got)
	}
	if !strings.Contains(fmt.Sprint(root.Attributes), "http.response.status_code") || !strings.Contains(fmt.Sprint(root.Attributes), "int_value:201") {
		t.Errorf("its answer is not told: %v", root.Attributes)
	}
	for _, name := range []string{"Call validating webhook", "Create etcd3"} {
		if sp := got[name]; sp == nil || string(sp.ParentSpanId) != string(root.SpanId) {
			t.Errorf("%s is not below the request: %v", name, sp)
		}
	}
	if got := c.of(theirs); len(got) > 0 {
		t.Errorf("anyone can have requests traced: %v", got)
	}
}

func TestTracingConfigurationRefused(t *testing.T) {
	for name, text := range map[string]string{
		"rate":    "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nsamplingRatePerMillion: 1000001\n",
		"field":   "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nsampling: 1\n",
		"kind":    "apiVersion: apiserver.config.k8s.io/v1\nkind: Tracing\n",
		"version": "apiVersion: apiserver.config.k8s.io/v9\nkind: TracingConfiguration\n",
	} {
		file := filepath.Join(t.TempDir(), "tracing.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := tracing.Load(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
