// Package tracing tells an OpenTelemetry collector what requests spent their time
// on: a span for each request, and below it those of storage, webhooks and other
// API servers. What a request belongs to is told in the headers of the W3C.
package tracing

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/component-base/tracing"
	tracingapi "k8s.io/component-base/tracing/api/v1"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/request"
	spans "skiff/cluster/tracing"
)

// Load reads a TracingConfiguration.
func Load(path string) (*tracingapi.TracingConfiguration, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tracing configuration: %w", err)
	}
	var c struct {
		metav1.TypeMeta                 `json:",inline"`
		tracingapi.TracingConfiguration `json:",inline"`
	}
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return nil, fmt.Errorf("tracing configuration %s: %w", path, err)
	}
	group, version, _ := strings.Cut(c.APIVersion, "/")
	if group != "apiserver.config.k8s.io" || !slices.Contains([]string{"v1", "v1beta1", "v1alpha1"}, version) || c.Kind != "TracingConfiguration" {
		return nil, fmt.Errorf("tracing configuration %s is %s, Kind=%s: want apiserver.config.k8s.io/v1, Kind=TracingConfiguration", path, c.APIVersion, c.Kind)
	}
	if errs := tracingapi.ValidateTracingConfiguration(&c.TracingConfiguration, nil, field.NewPath("tracing")); len(errs) > 0 {
		return nil, fmt.Errorf("tracing configuration %s: %w", path, errs.ToAggregate())
	}
	return &c.TracingConfiguration, nil
}

// Provider makes spans and sends them.
type Provider struct{ tracing.TracerProvider }

// New makes a provider for a server that others know by instance. It dials when
// there is something to send.
func New(ctx context.Context, c *tracingapi.TracingConfiguration, instance string) (*Provider, error) {
	tp, err := spans.New(ctx, c, "apiserver", attribute.String("service.instance.id", instance))
	if err != nil {
		return nil, err
	}
	return &Provider{tp}, nil
}

// Request begins the span of a request that is authenticated: a client's own
// decision to sample counts only where it is the administrator's; the spans of
// others are linked to theirs. end takes the answer's code.
//
// otelhttp would do most of this, and add 1.5 MB to the binary.
func (p *Provider) Request(r *http.Request) (_ context.Context, end func(code int)) {
	ctx := tracing.Propagators().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	o := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("url.scheme", "https"), attribute.String("url.path", r.URL.Path),
		attribute.String("http.target", r.URL.Path), attribute.String("server.address", "apiserver"), attribute.String("client.address", r.RemoteAddr),
		attribute.String("user_agent.original", r.UserAgent()), attribute.String("network.protocol.version", strings.TrimPrefix(r.Proto, "HTTP/")),
		attribute.String("audit-id", request.AuditIDFrom(r.Context())))}
	if public(r) {
		o = append(o, trace.WithNewRoot())
		if theirs := trace.SpanContextFromContext(ctx); theirs.IsValid() {
			o = append(o, trace.WithLinks(trace.Link{SpanContext: theirs}))
		}
	}
	ctx, span := p.Tracer(spans.Scope).Start(ctx, spanName(r), o...)
	return ctx, func(code int) {
		span.SetAttributes(attribute.Int("http.response.status_code", code))
		if code >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

func public(r *http.Request) bool {
	u := request.UserFrom(r.Context())
	return u == nil || !slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup) && !slices.Contains(u.GetGroups(), user.MonitoringGroup)
}

// spanName has the request's form and none of its names: spans are counted by it.
func spanName(r *http.Request) string {
	info := request.InfoFrom(r.Context())
	if info == nil || !info.IsResource {
		return r.Method
	}
	parts := []string{"", info.APIPrefix}
	if info.APIGroup != "" {
		parts = append(parts, info.APIGroup)
	}
	parts = append(parts, info.APIVersion)
	if info.Namespace != "" {
		parts = append(parts, "namespaces", "{:namespace}")
	}
	parts = append(parts, info.Resource)
	if info.Name != "" {
		parts = append(parts, "{:name}")
	}
	if info.Subresource != "" {
		parts = append(parts, info.Subresource)
	}
	return r.Method + " " + strings.Join(parts, "/")
}
