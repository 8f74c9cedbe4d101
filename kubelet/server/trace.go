package server

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	componenttracing "k8s.io/component-base/tracing"

	"skiff/cluster/tracing"
)

// traced begins a span for each request, below that of a caller who tells of one.
// It stands behind authentication: others do not say what is sampled.
func (s *Server) traced(h http.Handler) http.Handler {
	if s.cfg.Tracing == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := componenttracing.Propagators().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		ctx, end := tracing.Root(ctx, s.cfg.Tracing, r.Method+" /"+first,
			attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path), attribute.String("client.address", r.RemoteAddr))
		defer end(nil)
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}
