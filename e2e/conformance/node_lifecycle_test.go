package conformance

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

// nodeSelected are the pods of a label.
func nodeSelected(s *space, selector string) []corev1.Pod {
	s.t.Helper()
	list, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: selector})
	s.must(err)
	return list.Items
}

// nodeNext waits for an event of a watch.
func nodeNext(s *space, w watch.Interface, what string, is func(watch.Event) bool) *corev1.Pod {
	s.t.Helper()
	end := time.After(60 * time.Second)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				s.t.Fatalf("the watch ended before %s", what)
			}
			if p, ok := e.Object.(*corev1.Pod); ok && is(e) {
				return p
			}
		case <-end:
			s.t.Fatalf("no event: %s", what)
		}
	}
}

// Conformance: [sig-node] Pods should be submitted and removed
func TestNodePodRemoved(t *testing.T) {
	s := parallel(t)
	if before := nodeSelected(s, "time=now"); len(before) != 0 {
		t.Errorf("there are %d pods before", len(before))
	}
	list, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "time=now"})
	s.must(err)
	w, err := s.client.CoreV1().Pods(s.name).Watch(s.ctx, metav1.ListOptions{LabelSelector: "time=now", ResourceVersion: list.ResourceVersion})
	s.must(err)
	defer w.Stop()
	p := probePod("pod", "serve")
	p.Labels["time"] = "now"
	s.pod(p)
	if found := nodeSelected(s, "time=now"); len(found) != 1 {
		t.Errorf("the label finds %d pods", len(found))
	}
	nodeNext(s, w, "added", func(e watch.Event) bool { return e.Type == watch.Added })
	nodeNext(s, w, "running", func(e watch.Event) bool { return e.Object.(*corev1.Pod).Status.Phase == corev1.PodRunning })
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, "pod", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](30)}))
	nodeNext(s, w, "its deletion", func(e watch.Event) bool {
		return e.Type == watch.Modified && e.Object.(*corev1.Pod).DeletionTimestamp != nil && *e.Object.(*corev1.Pod).DeletionGracePeriodSeconds == 30
	})
	last := nodeNext(s, w, "deleted", func(e watch.Event) bool { return e.Type == watch.Deleted })
	if last.DeletionTimestamp == nil || *last.Spec.TerminationGracePeriodSeconds != 1 {
		t.Errorf("the last state is deleted at %v with a grace period of %d", last.DeletionTimestamp, *last.Spec.TerminationGracePeriodSeconds)
	}
	for _, c := range last.Status.ContainerStatuses {
		if c.State.Terminated == nil {
			t.Errorf("container %s ended as %+v", c.Name, c.State)
		}
	}
	if found := nodeSelected(s, "time=now"); len(found) != 0 {
		t.Errorf("the label finds %d pods at the end", len(found))
	}
}

// Conformance: [sig-node] Pods should be updated
func TestNodePodUpdated(t *testing.T) {
	s := parallel(t)
	p := probePod("pod", "serve")
	p.Labels["time"] = "before"
	s.ready(p)
	nodeUpdate(s, "pod", func(p *corev1.Pod) { p.Labels["time"] = "after" })
	if found := nodeSelected(s, "time=after"); len(found) != 1 || len(nodeSelected(s, "time=before")) != 0 {
		t.Errorf("the new label finds %d pods", len(found))
	}
}

// Conformance: [sig-node] Pods should allow activeDeadlineSeconds to be updated
func TestNodePodDeadline(t *testing.T) {
	s := parallel(t)
	s.ready(probePod("pod", "serve"))
	nodeUpdate(s, "pod", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](4) })
	end := s.podIs("pod", "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if end.Status.Reason != "DeadlineExceeded" || end.Status.Message != "Pod was active on the node longer than the specified deadline" {
		t.Errorf("the pod failed for %q: %q", end.Status.Reason, end.Status.Message)
	}
	s.podIs("pod", "with its container ended", func(p *corev1.Pod) bool { return nodeStatus(p, "main").State.Terminated != nil })
}

// Conformance: [sig-node] Pods should delete a collection of pods
func TestNodePodCollection(t *testing.T) {
	s := parallel(t)
	for i := range 3 {
		p := probePod(fmt.Sprintf("pod-%d", i), "serve")
		p.Labels["type"] = "testing"
		s.pod(p)
	}
	s.pod(probePod("other", "serve"))
	if found := nodeSelected(s, "type=testing"); len(found) != 3 {
		t.Errorf("the label finds %d pods, want 3", len(found))
	}
	s.must(s.client.CoreV1().Pods(s.name).DeleteCollection(s.ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}, metav1.ListOptions{LabelSelector: "type=testing"}))
	s.eventually(60*time.Second, "end of the pods", func() error {
		if found := nodeSelected(s, "type=testing"); len(found) != 0 {
			return fmt.Errorf("the label finds %d pods", len(found))
		}
		return nil
	})
	if len(nodeSelected(s, "app=other")) != 1 {
		t.Error("the pod of another label is gone too")
	}
}

// Conformance: [sig-node] Pods should patch a pod status
func TestNodePodStatusPatch(t *testing.T) {
	s := parallel(t)
	s.ready(probePod("pod", "serve"))
	status := map[string]any{"status": map[string]any{"message": "Patched by e2e test", "reason": "E2E"}}
	patch, err := json.Marshal(status)
	s.must(err)
	got, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, "pod", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	s.must(err)
	if got.Status.Message != "Patched by e2e test" || got.Status.Reason != "E2E" {
		t.Errorf("the patched status is %q, %q", got.Status.Reason, got.Status.Message)
	}
}

// Conformance: [sig-node] Pods should run through the lifecycle of Pods and PodStatus
func TestNodePodLifecycle(t *testing.T) {
	s := parallel(t)
	pods := s.client.CoreV1().Pods(s.name)
	w, err := pods.Watch(s.ctx, metav1.ListOptions{LabelSelector: "test-pod-static=true"})
	s.must(err)
	defer w.Stop()
	p := probePod("pod", "serve")
	p.Labels["test-pod-static"] = "true"
	s.pod(p)
	nodeNext(s, w, "Running and Ready", func(e watch.Event) bool {
		p := e.Object.(*corev1.Pod)
		return p.Status.Phase == corev1.PodRunning && nodeCondition(p, corev1.PodReady) == corev1.ConditionTrue && p.Status.StartTime != nil
	})
	_, err = pods.Patch(s.ctx, "pod", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"test-pod":"patched"}},
		"spec":{"terminationGracePeriodSeconds":1,"containers":[{"name":"main","image":"probe:1"}]}}`), metav1.PatchOptions{})
	s.must(err)
	nodeNext(s, w, "patched", func(e watch.Event) bool {
		p := e.Object.(*corev1.Pod)
		return p.Labels["test-pod"] == "patched" && p.Spec.Containers[0].Image == "probe:1"
	})
	// A new image ends the container, and this pod does not start it again.
	s.eventually(30*time.Second, "replacing the status", func() error {
		got, err := pods.Get(s.ctx, "pod", metav1.GetOptions{})
		s.must(err)
		for i := range got.Status.Conditions {
			if got.Status.Conditions[i].Type == corev1.PodReady {
				got.Status.Conditions[i].Status = corev1.ConditionFalse
			}
		}
		got, err = pods.UpdateStatus(s.ctx, got, metav1.UpdateOptions{})
		if err == nil && nodeCondition(got, corev1.PodReady) != corev1.ConditionFalse {
			t.Errorf("the replaced status is %+v", got.Status.Conditions)
		}
		return err
	})
	var raw corev1.Pod
	s.must(s.client.CoreV1().RESTClient().Get().Resource("pods").Namespace(s.name).Name("pod").SubResource("status").Do(s.ctx).Into(&raw))
	if raw.Name != "pod" || len(raw.Status.Conditions) == 0 {
		t.Errorf("pods/status is %+v", raw.Status)
	}
	s.must(pods.DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "test-pod-static=true"}))
	nodeNext(s, w, "deleted", func(e watch.Event) bool { return e.Type == watch.Deleted })
}

// Conformance: [sig-node] Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for memory and cpu
func TestNodeQOSClass(t *testing.T) {
	s := parallel(t)
	list := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("100Mi")}
	for name, tt := range map[corev1.PodQOSClass]corev1.ResourceRequirements{
		corev1.PodQOSGuaranteed: {Requests: list, Limits: list},
		corev1.PodQOSBurstable:  {Requests: list},
		corev1.PodQOSBestEffort: {},
	} {
		p := probePod("pod", "serve")
		p.Spec.Containers[0].Resources = tt
		got, err := s.client.CoreV1().Pods(s.name).Create(s.ctx, p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		s.must(err)
		if got.Status.QOSClass != name {
			t.Errorf("the class is %s, want %s", got.Status.QOSClass, name)
		}
	}
	p := probePod("pod", "serve")
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list, Limits: list}
	if got := s.ready(p); got.Status.QOSClass != corev1.PodQOSGuaranteed {
		t.Errorf("the class of the running pod is %s", got.Status.QOSClass)
	}
	selected, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("status.phase", "Running").String()})
	s.must(err)
	if len(selected.Items) != 1 {
		t.Errorf("%d pods of phase Running", len(selected.Items))
	}
}
