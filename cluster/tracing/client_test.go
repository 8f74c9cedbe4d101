package tracing

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// A client's request is a span below the work that it is for, and the server hears of
// it, so that its own spans come below.
func TestClient(t *testing.T) {
	parent := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parent <- r.Header.Get("Traceparent")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}}`))
	}))
	defer server.Close()
	recorder := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	plain := &rest.Config{Host: server.URL}
	kube, err := kubernetes.NewForConfig(Client(plain, tp))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := Root(context.Background(), tp, "syncPod")
	if _, err := kube.CoreV1().Pods("ns").Get(ctx, "p", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	end(nil)
	spans := recorder.Ended()
	if len(spans) != 2 || spans[0].Parent().SpanID() != spans[1].SpanContext().SpanID() {
		t.Fatalf("%d spans, want the request's below the step's", len(spans))
	}
	if got := spans[0].Name(); got != "HTTP GET" || spans[0].SpanKind() != trace.SpanKindClient || !slices.Contains(spans[0].Attributes(), attribute.Int("http.response.status_code", 200)) {
		t.Errorf("the span is %s with %v", got, spans[0].Attributes())
	}
	if told, id := <-parent, spans[0].SpanContext().SpanID().String(); !strings.Contains(told, id) {
		t.Errorf("the server is told of %q, want %s", told, id)
	}
	if plain.WrapTransport != nil {
		t.Error("the access that was given is traced too")
	}
}
