package conformance

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeRefused is the text of the refusal of a pod.
func nodeRefused(s *space, p *corev1.Pod) string {
	s.t.Helper()
	_, err := s.client.CoreV1().Pods(s.name).Create(s.ctx, p, metav1.CreateOptions{})
	if err == nil {
		s.t.Fatalf("pod %s was accepted", p.Name)
	}
	return err.Error()
}

// nodeRuntimeClass makes a class of a handler that no node has.
func nodeRuntimeClass(s *space, overhead *nodev1.Overhead) string {
	s.t.Helper()
	c, err := s.client.NodeV1().RuntimeClasses().Create(s.ctx, &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: s.name}, Handler: "unknown", Overhead: overhead,
	}, metav1.CreateOptions{})
	s.must(err)
	s.t.Cleanup(func() {
		if err := s.client.NodeV1().RuntimeClasses().Delete(s.ctx, c.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			s.t.Error(err)
		}
	})
	return c.Name
}

// Conformance: [sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass
// Conformance: [sig-node] RuntimeClass should reject a Pod requesting a deleted RuntimeClass
func TestNodeRuntimeClassMissing(t *testing.T) {
	s := parallel(t)
	deleted := nodeRuntimeClass(s, nil)
	s.must(s.client.NodeV1().RuntimeClasses().Delete(s.ctx, deleted, metav1.DeleteOptions{}))
	for _, name := range []string{"nonexistent", deleted} {
		p := probePod("pod", "serve")
		p.Spec.RuntimeClassName = &name
		_, err := s.client.CoreV1().Pods(s.name).Create(s.ctx, p, metav1.CreateOptions{})
		if !apierrors.IsForbidden(err) {
			t.Fatalf("a pod of class %s: %v, want it forbidden", name, err)
		}
		if want := `pod rejected: RuntimeClass "` + name + `" not found`; !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal is %q, want %q", err, want)
		}
	}
}

// The pods need not run: no node has their handler.
func TestNodeRuntimeClass(t *testing.T) {
	overhead := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("1Mi")}
	tests := map[string]*nodev1.Overhead{
		// Conformance: [sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead
		"without overhead": nil,
		// Conformance: [sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead
		"with overhead": {PodFixed: overhead},
	}
	for name, o := range tests {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			class := nodeRuntimeClass(s, o)
			p := probePod("pod", "serve")
			p.Spec.RuntimeClassName = &class
			made := s.pod(p)
			if o != nil && (!made.Spec.Overhead.Cpu().Equal(*overhead.Cpu()) || !made.Spec.Overhead.Memory().Equal(*overhead.Memory())) {
				t.Errorf("the pod's overhead is %v, want %v", made.Spec.Overhead, overhead)
			}
			if o == nil && made.Spec.Overhead != nil {
				t.Errorf("the pod has overhead %v", made.Spec.Overhead)
			}
			s.podIs("pod", "scheduled", func(p *corev1.Pod) bool { return nodeCondition(p, corev1.PodScheduled) == corev1.ConditionTrue })
			nodeHasEvent(s, "pod", "FailedCreatePodSandBox", "Failed to create pod sandbox: ")
			nodeRemove(s, "pod")
		})
	}
}
