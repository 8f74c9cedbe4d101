package server

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// A request has a span, below that of the caller.
func TestRequestsAreTraced(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	s := &Server{cfg: Config{Tracing: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))}}
	h := s.traced(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for _, parent := range []string{"", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"} {
		r := httptest.NewRequest(http.MethodGet, "/containerLogs/ns/pod/c", nil)
		if parent != "" {
			r.Header.Set("Traceparent", parent)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusNoContent {
			t.Errorf("code %d", w.Code)
		}
	}
	var got []string
	for _, s := range recorder.Ended() {
		got = append(got, s.Name()+" below "+s.Parent().SpanID().String())
	}
	if d := cmp.Diff([]string{"GET /containerLogs below 0000000000000000", "GET /containerLogs below 0123456789abcdef"}, got); d != "" {
		t.Error(d)
	}
}
