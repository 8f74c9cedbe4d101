package kubelet

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/critest"
	"skiff/kubelet/critrace"
)

// Each step of a pod is a trace of its own, and what it asks of the runtime is below
// it.
func TestStepsAreTraced(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	h := startWith(t, critest.New("img:1"), func(c *Config) {
		c.Tracing = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
		c.Runtime, c.Images = critrace.Runtime{RuntimeService: c.Runtime}, critrace.Images{ImageManagerService: c.Images}
	}, newPod("a"))
	pod := h.wait("a", "ready", ready)
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = ptr.To(metav1.Now()), ptr.To[int64](3)
	if _, err := h.client.CoreV1().Pods("ns").Update(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.wait("a", "deleted", func(p *v1.Pod) bool { return p == nil })
	h.stop()
	// below is by what a step did; steps have the pod's attributes.
	steps, below := map[string]sdktrace.ReadOnlySpan{}, map[string]string{}
	for _, s := range recorder.Ended() {
		if !s.Parent().IsValid() {
			steps[s.SpanContext().SpanID().String()] = s
		}
	}
	for _, s := range recorder.Ended() {
		if parent := steps[s.Parent().SpanID().String()]; parent != nil {
			below[s.Name()] = parent.Name()
		}
	}
	for call, step := range map[string]string{
		"RunPodSandbox": "syncPod", "CreateContainer": "syncPod", "StartContainer": "syncPod",
		"StopContainer": "syncTerminatingPod", "StopPodSandbox": "syncTerminatingPod",
	} {
		if got := below["runtime.v1.RuntimeService/"+call]; got != step {
			t.Errorf("%s is below %q, want %s", call, got, step)
		}
	}
	want := []attribute.KeyValue{
		attribute.String("k8s.pod.uid", string(pod.UID)), attribute.String("k8s.pod", "ns/a"),
		attribute.String("k8s.pod.name", "a"), attribute.String("k8s.namespace.name", "ns"),
	}
	for _, s := range steps {
		if diff := cmp.Diff(want, s.Attributes(), cmp.AllowUnexported(attribute.KeyValue{}, attribute.Value{})); diff != "" {
			t.Fatalf("attributes of %s (-want +got):\n%s", s.Name(), diff)
		}
	}
}
