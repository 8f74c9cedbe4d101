package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

func (s *space) stateful(set *appsv1.StatefulSet) *appsv1.StatefulSet {
	s.t.Helper()
	headless := &corev1.Service{ObjectMeta: named(set.Name), Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": set.Name}, Ports: []corev1.ServicePort{{Port: 80}},
	}}
	_, err := s.client.CoreV1().Services(s.name).Create(s.ctx, headless, metav1.CreateOptions{})
	s.must(err)
	out, err := s.client.AppsV1().StatefulSets(s.name).Create(s.ctx, set, metav1.CreateOptions{})
	s.must(err)
	return out
}

func (s *space) updateStateful(name string, change func(*appsv1.StatefulSet)) {
	s.t.Helper()
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		set, err := s.client.AppsV1().StatefulSets(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(set)
		_, err = s.client.AppsV1().StatefulSets(s.name).Update(s.ctx, set, metav1.UpdateOptions{})
		return err
	}))
}

func (s *space) scaleStateful(name string, n int32) {
	s.t.Helper()
	s.updateStateful(name, func(set *appsv1.StatefulSet) { set.Spec.Replicas = &n })
}

func (s *space) statefulIs(name, what string, is func(*appsv1.StatefulSet) bool) *appsv1.StatefulSet {
	s.t.Helper()
	var set *appsv1.StatefulSet
	s.eventually(90*time.Second, "stateful set "+name+" "+what, func() (err error) {
		if set, err = s.client.AppsV1().StatefulSets(s.name).Get(s.ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if set.Status.ObservedGeneration < set.Generation || !is(set) {
			return fmt.Errorf("generation %d: %+v", set.Generation, set.Status)
		}
		return nil
	})
	return set
}

// order follows pods and collects the names of those that are made or gone.
func (s *space) order(app string, kind watch.EventType) (next func(n int) []string) {
	s.t.Helper()
	list, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{})
	s.must(err)
	w, err := s.client.CoreV1().Pods(s.name).Watch(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app, ResourceVersion: list.ResourceVersion})
	s.must(err)
	s.t.Cleanup(w.Stop)
	return func(n int) []string {
		s.t.Helper()
		var names []string
		s.seen(w, fmt.Sprintf("%d pods %s", n, kind), func(got watch.EventType, obj runtime.Object) bool {
			if got == kind {
				names = append(names, obj.(*corev1.Pod).Name)
			}
			return len(names) == n
		})
		return names
	}
}

// stays checks that a set's pods are these for a while that the controller would
// have needed to change them.
func (s *space) stays(app string, want ...string) {
	s.t.Helper()
	s.holds(2*time.Second, "the pods of "+app+" stay", func() error {
		var got []string
		for _, p := range s.podsOf(app) {
			got = append(got, p.Name)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("they are %v, want %v", got, want)
		}
		return nil
	})
}

// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Scaling should happen in predictable order and halt if any stateful pod is unhealthy [Slow]
func TestAppsStatefulOrder(t *testing.T) {
	s := parallel(t)
	made := s.order("ss", watch.Added)
	s.stateful(statefulSet("ss", 1))
	s.running("ss", 1)
	s.setReady("ss-0", false)
	s.statefulIs("ss", "with no ready pod", func(set *appsv1.StatefulSet) bool { return set.Status.ReadyReplicas == 0 })
	s.scaleStateful("ss", 3)
	s.stays("ss", "ss-0") // it halts
	s.setReady("ss-0", true)
	s.running("ss", 3)
	if got, want := made(3), []string{"ss-0", "ss-1", "ss-2"}; !slices.Equal(got, want) {
		t.Errorf("the pods were made in the order %v, want %v", got, want)
	}
	gone := s.order("ss", watch.Deleted)
	every := []string{"ss-0", "ss-1", "ss-2"}
	for _, name := range every {
		s.setReady(name, false)
	}
	s.statefulIs("ss", "with no ready pod", func(set *appsv1.StatefulSet) bool { return set.Status.ReadyReplicas == 0 })
	s.scaleStateful("ss", 0)
	s.stays("ss", every...)
	for _, name := range every {
		s.setReady(name, true)
	}
	if got, want := gone(3), []string{"ss-2", "ss-1", "ss-0"}; !slices.Equal(got, want) {
		t.Errorf("the pods went in the order %v, want %v", got, want)
	}
	s.statefulIs("ss", "empty", func(set *appsv1.StatefulSet) bool { return set.Status.Replicas == 0 })
}

// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Burst scaling should run to completion even with unhealthy pods [Slow]
func TestAppsStatefulBurst(t *testing.T) {
	s := parallel(t)
	set := statefulSet("ss", 1)
	set.Spec.PodManagementPolicy = appsv1.ParallelPodManagement
	s.stateful(set)
	s.running("ss", 1)
	s.setReady("ss-0", false)
	s.statefulIs("ss", "with no ready pod", func(set *appsv1.StatefulSet) bool { return set.Status.ReadyReplicas == 0 })
	s.scaleStateful("ss", 3)
	s.statefulIs("ss", "with two ready pods beside the unready one", func(set *appsv1.StatefulSet) bool {
		return set.Status.Replicas == 3 && set.Status.ReadyReplicas == 2
	})
	s.setReady("ss-0", true)
	s.running("ss", 3)
	for _, name := range []string{"ss-0", "ss-1", "ss-2"} {
		s.setReady(name, false)
	}
	s.statefulIs("ss", "with no ready pod", func(set *appsv1.StatefulSet) bool { return set.Status.ReadyReplicas == 0 })
	s.scaleStateful("ss", 0)
	s.statefulIs("ss", "empty", func(set *appsv1.StatefulSet) bool { return set.Status.Replicas == 0 })
}

// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset
func TestAppsStatefulRecreated(t *testing.T) {
	s := parallel(t)
	port := corev1.ContainerPort{ContainerPort: 21017, HostPort: 21017, Name: "conflict"}
	blocker := probePod("blocker")
	blocker.Spec.Containers[0].Ports = []corev1.ContainerPort{port}
	node := s.ready(blocker).Spec.NodeName
	set := statefulSet("ss", 1)
	set.Spec.Template.Spec.Containers[0].Ports = []corev1.ContainerPort{port}
	set.Spec.Template.Spec.NodeName = node // past the scheduler, so the kubelet refuses it
	made := s.order("ss", watch.Added)
	gone := s.order("ss", watch.Deleted)
	s.stateful(set)
	made(2)
	gone(1)
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, "blocker", metav1.DeleteOptions{}))
	s.running("ss", 1)
}

// images are those of a set's pods by ordinal.
func (s *space) images(app string) []string {
	s.t.Helper()
	var out []string
	for _, p := range s.podsOf(app) {
		out = append(out, p.Spec.Containers[0].Image)
	}
	return out
}

func (s *space) updated(revision, image string, n int32) *appsv1.StatefulSet {
	s.t.Helper()
	set := s.statefulIs("ss", "updated", func(set *appsv1.StatefulSet) bool {
		return set.Status.CurrentRevision == set.Status.UpdateRevision && set.Status.UpdateRevision != revision &&
			set.Status.ReadyReplicas == n && set.Status.UpdatedReplicas == n && set.Status.CurrentReplicas == n
	})
	for _, p := range s.podsOf("ss") {
		if p.Spec.Containers[0].Image != image || p.Labels[appsv1.ControllerRevisionHashLabelKey] != set.Status.UpdateRevision {
			s.t.Errorf("pod %s has image %s and revision %s", p.Name, p.Spec.Containers[0].Image, p.Labels[appsv1.ControllerRevisionHashLabelKey])
		}
	}
	return set
}

// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform rolling updates and roll backs of template modifications
func TestAppsStatefulRollingUpdate(t *testing.T) {
	s := parallel(t)
	s.stateful(statefulSet("ss", 3))
	s.running("ss", 3)
	first := s.updated("", "probe", 3).Status.CurrentRevision
	gone := s.order("ss", watch.Deleted)
	// update changes the image while a pod is not ready, which holds the update up.
	update := func(image, from string) *appsv1.StatefulSet {
		t.Helper()
		s.setReady("ss-1", false)
		s.statefulIs("ss", "with an unready pod", func(set *appsv1.StatefulSet) bool { return set.Status.ReadyReplicas == 2 })
		s.updateStateful("ss", func(set *appsv1.StatefulSet) { set.Spec.Template.Spec.Containers[0].Image = image })
		set := s.statefulIs("ss", "with another update revision", func(set *appsv1.StatefulSet) bool { return set.Status.UpdateRevision != from })
		if set.Status.CurrentRevision != from {
			t.Errorf("the current revision is %s before the update's end, want %s", set.Status.CurrentRevision, from)
		}
		s.stays("ss", "ss-0", "ss-1", "ss-2")
		s.setReady("ss-1", true)
		set = s.updated(from, image, 3)
		if got, want := gone(3), []string{"ss-2", "ss-1", "ss-0"}; !slices.Equal(got, want) {
			t.Errorf("the pods were replaced in the order %v, want %v", got, want)
		}
		return set
	}
	second := update("probe:1", first).Status.UpdateRevision
	if got := update("probe", second).Status.UpdateRevision; got != first {
		t.Errorf("the rollback's revision is %s, want %s again", got, first)
	}
	list, err := s.client.AppsV1().ControllerRevisions(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "app=ss"})
	s.must(err)
	if len(list.Items) != 2 {
		t.Errorf("there are %d revisions, want 2", len(list.Items))
	}
}

// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should perform canary updates and phased rolling updates of template modifications
func TestAppsStatefulCanary(t *testing.T) {
	s := parallel(t)
	set := statefulSet("ss", 3)
	partition := func(n int32) appsv1.StatefulSetUpdateStrategy {
		return appsv1.StatefulSetUpdateStrategy{
			Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To(n)},
		}
	}
	set.Spec.UpdateStrategy = partition(3)
	s.stateful(set)
	s.running("ss", 3)
	first := s.updated("", "probe", 3).Status.CurrentRevision
	becomes := func(what string, want ...string) {
		t.Helper()
		s.eventually(60*time.Second, what, func() error {
			if got := s.images("ss"); !slices.Equal(got, want) {
				return fmt.Errorf("the images are %v, want %v", got, want)
			}
			return nil
		})
		s.running("ss", 3)
		s.eventually(10*time.Second, what, func() error {
			if got := s.images("ss"); !slices.Equal(got, want) {
				return fmt.Errorf("the images are %v, want %v", got, want)
			}
			return nil
		})
	}
	s.updateStateful("ss", func(set *appsv1.StatefulSet) { set.Spec.Template.Spec.Containers[0].Image = "probe:1" })
	set = s.statefulIs("ss", "with another update revision", func(set *appsv1.StatefulSet) bool { return set.Status.UpdateRevision != first })
	second := set.Status.UpdateRevision
	s.stays("ss", "ss-0", "ss-1", "ss-2")
	becomes("the partition is above all pods", "probe", "probe", "probe")

	s.updateStateful("ss", func(set *appsv1.StatefulSet) { set.Spec.UpdateStrategy = partition(2) })
	becomes("the canary", "probe", "probe", "probe:1")
	// Deleted pods come back as their side of the partition says.
	for _, name := range []string{"ss-0", "ss-2"} {
		s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, name, metav1.DeleteOptions{}))
		s.eventually(30*time.Second, name+" is made again", func() error {
			if n := len(s.podsOf("ss")); n != 3 {
				return fmt.Errorf("%d pods", n)
			}
			return nil
		})
	}
	becomes("the canary stays", "probe", "probe", "probe:1")
	for _, p := range s.podsOf("ss") {
		want := first
		if p.Name == "ss-2" {
			want = second
		}
		if got := p.Labels[appsv1.ControllerRevisionHashLabelKey]; got != want {
			t.Errorf("%s has revision %s, want %s", p.Name, got, want)
		}
	}
	_, err := s.client.AppsV1().StatefulSets(s.name).Patch(s.ctx, "ss", types.StrategicMergePatchType, []byte(`{"spec":{"updateStrategy":{"rollingUpdate":{"partition":1}}}}`), metav1.PatchOptions{})
	s.must(err)
	becomes("the next phase", "probe", "probe:1", "probe:1")
	s.updateStateful("ss", func(set *appsv1.StatefulSet) { set.Spec.UpdateStrategy = partition(0) })
	becomes("the last phase", "probe:1", "probe:1", "probe:1")
	s.updated(first, "probe:1", 3)
}
