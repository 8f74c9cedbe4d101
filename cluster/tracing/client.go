package tracing

import (
	"go.opentelemetry.io/otel/trace"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/tracing"
)

// Client is the access api with a span for each request, below that of the request's
// context if there is one; the server is told of it.
func Client(api *rest.Config, tp trace.TracerProvider) *rest.Config {
	out := rest.CopyConfig(api)
	out.Wrap(tracing.WrapperFor(tp))
	return out
}
