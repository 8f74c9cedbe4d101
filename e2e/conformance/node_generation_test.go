package conformance

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// nodeObserved waits until the kubelet has seen a generation of the pod.
func nodeObserved(s *space, generation int64) *corev1.Pod {
	s.t.Helper()
	p := s.podIs("pod", fmt.Sprintf("observed at generation %d", generation), func(p *corev1.Pod) bool { return p.Status.ObservedGeneration == generation })
	for _, c := range p.Status.Conditions {
		if c.ObservedGeneration != generation {
			s.t.Errorf("condition %s is of generation %d, want %d", c.Type, c.ObservedGeneration, generation)
		}
	}
	return p
}

// Conformance: [sig-node] Pods Extended (pod generation) Pod Generation pod generation should start at 1 and increment per update [MinimumKubeletVersion:1.34]
func TestNodeGeneration(t *testing.T) {
	s := parallel(t)
	p := nodeInitPod(corev1.RestartPolicyAlways, [2]string{"0", "0"}, "serve")
	p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}
	if made := s.ready(p); made.Generation != 1 {
		t.Errorf("the generation is %d at first", made.Generation)
	}
	nodeObserved(s, 1)
	want := int64(1)
	for _, tt := range []struct {
		name   string
		change func(*corev1.Pod)
		bumps  bool
	}{
		{"nothing", func(*corev1.Pod) {}, false},
		{"toleration", func(p *corev1.Pod) {
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: "foo", Operator: corev1.TolerationOpEqual, Value: "bar", Effect: corev1.TaintEffectNoSchedule})
		}, true},
		{"deadline", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](5000) }, true},
		{"image", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "probe:1" }, true},
		{"init image", func(p *corev1.Pod) { p.Spec.InitContainers[0].Image = "probe:1" }, true},
		{"metadata", func(p *corev1.Pod) { p.Annotations = map[string]string{"key": "value"} }, false},
		{"the generation itself", func(p *corev1.Pod) { p.Generation = 1 }, false},
	} {
		if tt.bumps {
			want++
		}
		if got := nodeUpdate(s, "pod", tt.change); got.Generation != want {
			t.Errorf("the generation is %d after a change of %s, want %d", got.Generation, tt.name, want)
		}
		nodeObserved(s, want)
	}
	got, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, "pod", types.StrategicMergePatchType,
		[]byte(`{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"12m"}}}]}}`), metav1.PatchOptions{}, "resize")
	s.must(err)
	if want++; got.Generation != want {
		t.Errorf("the generation is %d after a resize, want %d", got.Generation, want)
	}
	nodeObserved(s, want)
	got, err = s.client.CoreV1().Pods(s.name).Patch(s.ctx, "pod", types.StrategicMergePatchType,
		[]byte(`{"spec":{"ephemeralContainers":[{"name":"debug","image":"probe"}]}}`), metav1.PatchOptions{}, "ephemeralcontainers")
	s.must(err)
	if want++; got.Generation != want {
		t.Errorf("the generation is %d after an ephemeral container, want %d", got.Generation, want)
	}
	nodeObserved(s, want)
}

// Conformance: [sig-node] Pods Extended (pod generation) Pod Generation custom-set generation on new pods and graceful delete
func TestNodeGenerationDelete(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "trap '' TERM; sleep 600")
	p.Generation = 100
	if made := s.ready(p); made.Generation != 1 {
		t.Errorf("the generation is %d at first", made.Generation)
	}
	var last corev1.Pod
	s.must(s.client.CoreV1().RESTClient().Delete().Resource("pods").Namespace(s.name).Name("pod").Param("gracePeriodSeconds", "60").Do(s.ctx).Into(&last))
	got, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{})
	s.must(err)
	if last.Generation != 2 || got.Generation != 2 || *got.DeletionGracePeriodSeconds != 60 {
		t.Errorf("the generation is %d in the answer and %d then, want 2", last.Generation, got.Generation)
	}
	nodeObserved(s, 2)
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, "pod", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}))
}

// Conformance: [sig-node] Pods Extended (pod generation) Pod Generation issue 500 podspec updates and verify generation and observedGeneration eventually converge [MinimumKubeletVersion:1.34]
func TestNodeGenerationConverges(t *testing.T) {
	s := parallel(t)
	p := probePod("pod", "serve")
	p.Spec.ActiveDeadlineSeconds = ptr.To[int64](5000)
	s.ready(p)
	for i := range 499 {
		nodeUpdate(s, "pod", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To(int64(4999 - i)) })
	}
	begin := time.Now()
	if got := nodeObserved(s, 500); got.Generation != 500 {
		t.Errorf("the generation is %d, want 500", got.Generation)
	}
	t.Logf("observed %v after the last update", time.Since(begin))
}
