package scheduler_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"skiff/scheduler"
)

// cluster is a scheduler over a fake API that carries out bindings.
type cluster struct {
	t      *testing.T
	ctx    context.Context
	client *fake.Clientset
	events watch.Interface
}

func start(t *testing.T, objs ...runtime.Object) *cluster {
	t.Helper()
	client := fake.NewClientset(objs...)
	client.PrependReactor("create", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "binding" {
			return false, nil, nil
		}
		b := a.(clienttesting.CreateAction).GetObject().(*v1.Binding)
		gvr := v1.SchemeGroupVersion.WithResource("pods")
		obj, err := client.Tracker().Get(gvr, a.GetNamespace(), b.Name)
		if err != nil {
			return true, nil, err
		}
		pod := obj.(*v1.Pod).DeepCopy()
		pod.Spec.NodeName = b.Target.Name
		return true, b, client.Tracker().Update(gvr, pod, a.GetNamespace())
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	ev, err := client.EventsV1().Events("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := scheduler.New(scheduler.Config{Client: client, Informers: informers.NewSharedInformerFactory(client, 0)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &cluster{t: t, ctx: ctx, client: client, events: ev}
}

// until waits for a state of a pod.
func (c *cluster) until(name, what string, ok func(*v1.Pod) bool) *v1.Pod {
	c.t.Helper()
	w, err := c.client.CoreV1().Pods("default").Watch(c.ctx, metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer w.Stop()
	if p, err := c.client.CoreV1().Pods("default").Get(c.ctx, name, metav1.GetOptions{}); err == nil && ok(p) {
		return p
	}
	for {
		select {
		case e := <-w.ResultChan():
			if p, is := e.Object.(*v1.Pod); is && p.Name == name && ok(p) {
				return p
			}
		case <-c.ctx.Done():
			c.t.Fatalf("pod %s: %s did not come true", name, what)
		}
	}
}

func (c *cluster) note(reason string) string {
	c.t.Helper()
	for {
		select {
		case e := <-c.events.ResultChan():
			if n := asNote(e.Object, reason); n != "" {
				return n
			}
		case <-c.ctx.Done():
			c.t.Fatalf("no event %s", reason)
		}
	}
}

func node(name string, cpu string, change ...func(*v1.Node)) *v1.Node {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelHostname: name}}}
	n.Status.Allocatable = v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("8Gi"), v1.ResourcePods: resource.MustParse("10")}
	for _, f := range change {
		f(n)
	}
	return n
}

func pod(name, cpu string, change ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name), ResourceVersion: "1"}}
	p.Spec.SchedulerName = "default-scheduler"
	p.Spec.Containers = []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}}}}
	for _, f := range change {
		f(p)
	}
	return p
}

func (c *cluster) create(p *v1.Pod) {
	c.t.Helper()
	if _, err := c.client.CoreV1().Pods("default").Create(c.ctx, p, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func bound(p *v1.Pod) bool { return p.Spec.NodeName != "" }

func TestPodIsBoundToTheNodeThatFits(t *testing.T) {
	c := start(t, node("small", "100m"), node("big", "4"), node("tainted", "8", func(n *v1.Node) {
		n.Spec.Taints = []v1.Taint{{Key: "k", Effect: v1.TaintEffectNoSchedule}}
	}))
	c.create(pod("a", "1"))
	if got := c.until("a", "bound", bound).Spec.NodeName; got != "big" {
		t.Errorf("bound to %q, want big", got)
	}
	if got, want := c.note("Scheduled"), "Successfully assigned default/a to big"; got != want {
		t.Errorf("event %q, want %q", got, want)
	}
}

func TestUnschedulablePodSaysWhyAndIsTriedAgainWhenANodeComes(t *testing.T) {
	c := start(t, node("small", "100m"))
	c.create(pod("a", "1"))
	p := c.until("a", "has the condition", func(p *v1.Pod) bool { return len(p.Status.Conditions) > 0 })
	cond := p.Status.Conditions[0]
	if cond.Type != v1.PodScheduled || cond.Status != v1.ConditionFalse || cond.Reason != v1.PodReasonUnschedulable {
		t.Errorf("condition %+v", cond)
	}
	if want := "0/1 nodes are available: 1 Insufficient cpu."; !strings.HasPrefix(cond.Message, want) {
		t.Errorf("message %q, want prefix %q", cond.Message, want)
	}
	if _, err := c.client.CoreV1().Nodes().Create(c.ctx, node("big", "4"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.until("a", "bound", bound).Spec.NodeName; got != "big" {
		t.Errorf("bound to %q, want big", got)
	}
}

func TestReplicasSpreadOverNodes(t *testing.T) {
	c := start(t, node("n1", "4"), node("n2", "4"), node("n3", "4"))
	spread := func(p *v1.Pod) {
		p.Labels = map[string]string{"app": "web"}
		p.Spec.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: v1.LabelHostname, WhenUnsatisfiable: v1.DoNotSchedule,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	}
	var got []string
	for _, name := range []string{"a", "b", "c"} {
		c.create(pod(name, "100m", spread))
		got = append(got, c.until(name, "bound", bound).Spec.NodeName)
	}
	slices.Sort(got)
	if want := []string{"n1", "n2", "n3"}; !slices.Equal(got, want) {
		t.Errorf("bound to %v, want one on each of %v", got, want)
	}
}

func TestPreemptionEvictsThePodOfLowerPriority(t *testing.T) {
	low := pod("low", "900m", func(p *v1.Pod) { p.Spec.NodeName = "n1"; p.Spec.Priority = ptr.To[int32](0) })
	c := start(t, node("n1", "1"), low)
	c.create(pod("high", "500m", func(p *v1.Pod) { p.Spec.Priority = ptr.To[int32](1000) }))
	if got := c.note("Preempted"); got != "Preempted by pod uid-high on node n1" {
		t.Errorf("event %q", got)
	}
	if got := c.until("high", "bound", bound).Spec.NodeName; got != "n1" {
		t.Errorf("bound to %q, want n1", got)
	}
	if _, err := c.client.CoreV1().Pods("default").Get(c.ctx, "low", metav1.GetOptions{}); err == nil {
		t.Error("the pod of lower priority is still there")
	}
}

func TestAntiAffinityKeepsPodsApart(t *testing.T) {
	c := start(t, node("n1", "4"), node("n2", "4"))
	apart := func(p *v1.Pod) {
		p.Labels = map[string]string{"app": "db"}
		p.Spec.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []v1.PodAffinityTerm{{
			TopologyKey: v1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}}}}}
	}
	c.create(pod("a", "100m", apart))
	first := c.until("a", "bound", bound).Spec.NodeName
	c.create(pod("b", "100m", apart))
	if second := c.until("b", "bound", bound).Spec.NodeName; second == first {
		t.Errorf("both pods are on %s", first)
	}
	c.create(pod("c", "100m", apart))
	p := c.until("c", "has the condition", func(p *v1.Pod) bool { return len(p.Status.Conditions) > 0 })
	if want := "2 node(s) didn't match pod anti-affinity rules"; !strings.Contains(p.Status.Conditions[0].Message, want) {
		t.Errorf("message %q lacks %q", p.Status.Conditions[0].Message, want)
	}
}
