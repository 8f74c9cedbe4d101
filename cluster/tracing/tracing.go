// Package tracing makes spans and sends them to an OpenTelemetry collector, for
// every part that does so.
//
// Where no collector is configured, or the work is not sampled, a span is a look into
// the context and nothing else.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/component-base/tracing"
	tracingapi "k8s.io/component-base/tracing/api/v1"
)

// Scope is the instrumentation scope of every span.
const Scope = "skiff"

// New makes a provider for a part that the collector knows by service; about says
// more of it. It dials when there is something to send.
func New(ctx context.Context, c *tracingapi.TracingConfiguration, service string, about ...attribute.KeyValue) (tracing.TracerProvider, error) {
	tp, err := tracing.NewProvider(ctx, c, nil, []resource.Option{resource.WithAttributes(append(about, attribute.String("service.name", service))...)})
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return tp, nil
}

// Finish sends what is left, where someone listens, once ctx has ended.
func Finish(ctx context.Context, tp tracing.TracerProvider) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := tp.Shutdown(grace); err != nil {
		return fmt.Errorf("tracing: the last spans were not sent: %w", err)
	}
	return nil
}

// Start begins a span below the context's, if that is sampled. end takes the
// outcome.
func Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (_ context.Context, end func(error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, func(error) {}
	}
	return Root(ctx, parent.TracerProvider(), name, attributes...)
}

// Root begins a span of a provider, below the context's if there is one.
func Root(ctx context.Context, tp trace.TracerProvider, name string, attributes ...attribute.KeyValue) (_ context.Context, end func(error)) {
	ctx, span := tp.Tracer(Scope).Start(ctx, name, trace.WithAttributes(attributes...))
	return ctx, func(err error) {
		if err != nil && !errors.Is(err, context.Canceled) {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// Inject tells the other side of a request what it belongs to.
func Inject(ctx context.Context, h http.Header) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		tracing.Propagators().Inject(ctx, propagation.HeaderCarrier(h))
	}
}
