package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// priority makes a class and returns its name.
func (s *space) priority(name string, value int32) string {
	s.t.Helper()
	c := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: s.name + "-" + name, Labels: map[string]string{"test": s.name}}, Value: value}
	_, err := s.client.SchedulingV1().PriorityClasses().Create(s.ctx, c, metav1.CreateOptions{})
	s.must(err)
	s.t.Cleanup(func() {
		if err := s.client.SchedulingV1().PriorityClasses().Delete(s.ctx, c.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			s.t.Error(err)
		}
	})
	return c.Name
}

// scarce fills both nodes' five pieces of a resource: a pod of low priority on the
// first node, of middle priority on the others.
func (s *space) scarce() (name corev1.ResourceName, low, high string) {
	s.t.Helper()
	name = corev1.ResourceName("example.com/" + s.name)
	low, middle, high := s.priority("low", 1), s.priority("middle", 100), s.priority("high", 1000)
	for i, n := range s.nodes() {
		s.offer(n.Name, name, "5")
		p := uses(pinned(fmt.Sprintf("victim-%d", i), n.Name), name, "4")
		p.Spec.PriorityClassName = middle
		if i == 0 {
			p.Spec.PriorityClassName = low
		}
		s.ready(p)
	}
	return name, low, high
}

// preempted checks that the first node's pod has to go, and the other stays.
func (s *space) preempted() {
	s.t.Helper()
	s.gone("the pod of low priority", func() error {
		p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "victim-0", metav1.GetOptions{})
		if err == nil && p.DeletionTimestamp != nil {
			return apierrors.NewNotFound(corev1.Resource("pods"), p.Name)
		}
		return err
	})
	p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "victim-1", metav1.GetOptions{})
	s.must(err)
	if p.DeletionTimestamp != nil {
		s.t.Error("the pod of middle priority was preempted too")
	}
}

// Conformance: [sig-scheduling] SchedulerPreemption validates basic preemption works [Serial]
func TestSchedPreemption(t *testing.T) {
	s := parallel(t)
	name, _, high := s.scarce()
	p := uses(probePod("preemptor"), name, "4")
	p.Spec.PriorityClassName = high
	s.ready(p)
	s.preempted()
	s.eventually(20*time.Second, "an event of the preemption", func() error {
		events, err := s.client.CoreV1().Events(s.name).List(s.ctx, metav1.ListOptions{FieldSelector: "reason=Preempted,involvedObject.name=victim-0"})
		if err == nil && len(events.Items) == 0 {
			err = fmt.Errorf("there is none")
		}
		return err
	})
}

// Conformance: [sig-scheduling] SchedulerPreemption validates lower priority pod preemption by critical pod [Serial]
func TestSchedPreemptionCritical(t *testing.T) {
	s := parallel(t)
	name, _, _ := s.scarce()
	p := uses(probePod(s.name), name, "4")
	p.Spec.PriorityClassName = "system-cluster-critical"
	system := *s
	system.name = metav1.NamespaceSystem
	defer func() {
		s.must(s.client.CoreV1().Pods(system.name).Delete(s.ctx, p.Name, metav1.DeleteOptions{}))
	}()
	system.ready(p)
	s.preempted()
}

// Conformance: [sig-scheduling] SchedulerPreemption validates pod disruption condition is added to the preempted pod [Serial]
func TestSchedPreemptionCondition(t *testing.T) {
	s := parallel(t)
	name := corev1.ResourceName("example.com/" + s.name)
	low, high := s.priority("low", 1), s.priority("high", 1000)
	node := s.nodes()[0].Name
	s.offer(node, name, "1")
	victim := uses(probePod("victim"), name, "1")
	victim.Finalizers = []string{"example.com/test-finalizer"}
	victim.Spec.PriorityClassName = low
	s.ready(victim)
	p := uses(probePod("preemptor"), name, "1")
	p.Spec.PriorityClassName = high
	s.pod(p)
	got := s.podIs("victim", "preempted", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if !slices.ContainsFunc(got.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
	}) {
		t.Errorf("the preempted pod's conditions are %+v", got.Status.Conditions)
	}
	_, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, "victim", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	s.must(err)
	if got := s.podIs("preemptor", "Ready", podReady); got.Spec.NodeName != node {
		t.Errorf("the preemptor is on %s, want %s", got.Spec.NodeName, node)
	}
}

// Conformance: [sig-scheduling] SchedulerPreemption PreemptionExecutionPath runs ReplicaSets to verify preemption running path [Serial]
func TestSchedPreemptionPath(t *testing.T) {
	s := parallel(t)
	name := corev1.ResourceName("example.com/" + s.name)
	node := s.nodes()[0].Name
	s.offer(node, name, "1000")
	make := func(app string, replicas int32, quantity string, value int32) {
		t.Helper()
		rs := replicaSet(app, replicas)
		rs.Spec.Template.Spec.NodeSelector = map[string]string{hostnameLabel: node}
		rs.Spec.Template.Spec.PriorityClassName = s.priority(app, value)
		list := corev1.ResourceList{name: resource.MustParse(quantity)}
		rs.Spec.Template.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list, Limits: list}
		_, err := s.client.AppsV1().ReplicaSets(s.name).Create(s.ctx, rs, metav1.CreateOptions{})
		s.must(err)
	}
	for i, each := range []struct {
		replicas int32
		quantity string
	}{{5, "40"}, {4, "50"}, {4, "95"}} {
		app := fmt.Sprintf("p%d", i+1)
		make(app, each.replicas, each.quantity, int32(i+1))
		s.running(app, int(each.replicas))
	}
	before := s.podsOf("p3")
	// It needs 400 of 1000, of which 580 and 420 free: all of the two lowest must
	// give way as far as needed, and the third never.
	make("p4", 1, "400", 4)
	s.running("p4", 1)
	ready := func(app string) int32 {
		rs, err := s.client.AppsV1().ReplicaSets(s.name).Get(s.ctx, app, metav1.GetOptions{})
		s.must(err)
		return rs.Status.ReadyReplicas
	}
	s.eventually(30*time.Second, "the counts of the ReplicaSets", func() error {
		got := [4]int32{ready("p1"), ready("p2"), ready("p3"), ready("p4")}
		// 1000 - 400 - 380 leaves 220: the sets of low priority share that.
		if used := got[0]*40 + got[1]*50; got[2] != 4 || got[3] != 1 || used > 220 || used < 170 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	after := s.podsOf("p3")
	if !slices.EqualFunc(before, after, func(a, b corev1.Pod) bool { return a.UID == b.UID }) {
		t.Error("pods of the third priority were preempted")
	}
}
