package critrace

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/cluster/tracing"
)

type runtime struct{ internalapi.RuntimeService }

var errBusy = errors.New("busy")

func (runtime) RunPodSandbox(context.Context, *runtimeapi.PodSandboxConfig, string) (string, error) {
	return "sandbox", nil
}

func (runtime) StopContainer(context.Context, string, int64) error { return errBusy }

type images struct {
	internalapi.ImageManagerService
}

func (images) PullImage(context.Context, *runtimeapi.ImageSpec, *runtimeapi.AuthConfig, *runtimeapi.PodSandboxConfig) (string, error) {
	return "image", nil
}

// The spans have gRPC's names, and stand below the one of what made the call.
func TestSpans(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	r, i := Runtime{runtime{}}, Images{images{}}
	if _, err := r.RunPodSandbox(t.Context(), nil, ""); err != nil { // of nothing that is traced
		t.Fatal(err)
	}
	ctx, end := tracing.Root(t.Context(), tp, "syncPod")
	if id, err := r.RunPodSandbox(ctx, nil, ""); id != "sandbox" || err != nil {
		t.Errorf("got %q, %v", id, err)
	}
	if id, err := i.PullImage(ctx, nil, nil, nil); id != "image" || err != nil {
		t.Errorf("got %q, %v", id, err)
	}
	if err := r.StopContainer(ctx, "c", 0); !errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
	end(nil)
	type span struct{ name, outcome string }
	var got []span
	root := recorder.Ended()[len(recorder.Ended())-1]
	for _, s := range recorder.Ended() {
		got = append(got, span{s.Name(), s.Status().Description})
		if s != root && s.Parent().SpanID() != root.SpanContext().SpanID() {
			t.Errorf("%s is not below syncPod", s.Name())
		}
	}
	want := []span{{"runtime.v1.RuntimeService/RunPodSandbox", ""}, {"runtime.v1.ImageService/PullImage", ""}, {"runtime.v1.RuntimeService/StopContainer", "busy"}, {"syncPod", ""}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(span{})); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}
