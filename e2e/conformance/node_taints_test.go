package conformance

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

const nodeTaint = "kubernetes.io/e2e-evict-taint-key"

// nodeTolerant is a pod of a node that tolerates the taint for a time.
func nodeTolerant(name, node string, seconds int64) *corev1.Pod {
	p := probePod(name, "serve")
	p.Spec.NodeName = node
	p.Spec.Tolerations = []corev1.Toleration{{Key: nodeTaint, Value: "evictTaintVal", Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}}
	return p
}

// nodeTainted sets and lifts the taint of the node of the cluster that has no
// other tests' pods: these tests run alone.
func nodeTainted(s *space, node string) (lift func()) {
	s.t.Helper()
	change := func(edit func(*corev1.Node)) {
		s.t.Helper()
		s.eventually(20*time.Second, "change of the taints", func() error {
			n, err := s.client.CoreV1().Nodes().Get(s.ctx, node, metav1.GetOptions{})
			s.must(err)
			edit(n)
			_, err = s.client.CoreV1().Nodes().Update(s.ctx, n, metav1.UpdateOptions{})
			return err
		})
	}
	change(func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: nodeTaint, Value: "evictTaintVal", Effect: corev1.TaintEffectNoExecute})
	})
	lifted := false
	lift = func() {
		if lifted {
			return
		}
		lifted = true
		change(func(n *corev1.Node) {
			var rest []corev1.Taint
			for _, t := range n.Spec.Taints {
				if t.Key != nodeTaint {
					rest = append(rest, t)
				}
			}
			n.Spec.Taints = rest
		})
	}
	s.t.Cleanup(lift)
	return lift
}

// nodeName is a node that pods run on.
func nodeName(s *space) string {
	s.t.Helper()
	list, err := s.client.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	s.must(err)
	return list.Items[len(list.Items)-1].Name
}

// nodeEvicted waits until a pod is being deleted, and says how long it took.
func nodeEvicted(s *space, name string, since time.Time) time.Duration {
	s.t.Helper()
	s.eventually(60*time.Second, "eviction of pod "+name, func() error {
		p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && p.DeletionTimestamp != nil {
			return nil
		}
		return errors.Join(err, errors.New("it runs"))
	})
	return time.Since(since)
}

// Conformance: [sig-node] NoExecuteTaintManager Multiple Pods evicts pods with minTolerationSeconds [Disruptive] [Serial]
func TestNodeTaintEvicts(t *testing.T) {
	s := alone(t)
	node := nodeName(s)
	s.ready(nodeTolerant("short", node, 2))
	s.ready(nodeTolerant("long", node, 6))
	s.ready(nodeTolerant("forever", node, 3600))
	begin := time.Now()
	nodeTainted(s, node)
	if d := nodeEvicted(s, "short", begin); d < 1500*time.Millisecond {
		t.Errorf("the pod that tolerates the taint for 2 s is evicted after %v", d)
	}
	if d := nodeEvicted(s, "long", begin); d < 5500*time.Millisecond {
		t.Errorf("the pod that tolerates the taint for 6 s is evicted after %v", d)
	}
	nodeStays(s, 2*time.Second, func(p *corev1.Pod) error {
		if p.DeletionTimestamp != nil {
			return errors.New("it is evicted")
		}
		return nil
	}, "forever")
}

// Conformance: [sig-node] NoExecuteTaintManager Single Pod removing taint cancels eviction [Disruptive] [Serial]
func TestNodeTaintLifted(t *testing.T) {
	s := alone(t)
	node := nodeName(s)
	s.ready(nodeTolerant("pod", node, 4))
	lift := nodeTainted(s, node)
	stays := func(p *corev1.Pod) error {
		if p.DeletionTimestamp != nil {
			return errors.New("it is evicted")
		}
		return nil
	}
	nodeStays(s, time.Second, stays, "pod")
	lift()
	nodeStays(s, 6*time.Second, stays, "pod")
}

// Conformance: [sig-node] Node Lifecycle should run through the lifecycle of a node
func TestNodeNodeLifecycle(t *testing.T) {
	s := alone(t)
	nodes := s.client.CoreV1().Nodes()
	name := "fake-" + s.name
	made, err := nodes.Create(s.ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Phase:       corev1.NodeRunning,
			Capacity:    corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(10, resource.DecimalSI), corev1.ResourceCPU: resource.MustParse("1")},
			Allocatable: corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(10, resource.DecimalSI), corev1.ResourceCPU: resource.MustParse("1")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
		Spec: corev1.NodeSpec{Unschedulable: true},
	}, metav1.CreateOptions{})
	s.must(err)
	t.Cleanup(func() { _ = nodes.Delete(s.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}) })
	if made.Name != name {
		t.Errorf("the node is called %q", made.Name)
	}
	got, err := nodes.Get(s.ctx, name, metav1.GetOptions{})
	s.must(err)
	if got.Name != name || got.Status.Capacity.Cpu().Value() != 1 {
		t.Errorf("the node is %+v", got)
	}
	patched, err := nodes.Patch(s.ctx, name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"`+name+`":"patched"}}}`), metav1.PatchOptions{})
	s.must(err)
	if patched.Labels[name] != "patched" {
		t.Errorf("the labels are %v", patched.Labels)
	}
	list, err := nodes.List(s.ctx, metav1.ListOptions{LabelSelector: name + "=patched"})
	s.must(err)
	if len(list.Items) != 1 {
		t.Errorf("the label finds %d nodes", len(list.Items))
	}
	s.eventually(20*time.Second, "update of the node", func() error {
		n, err := nodes.Get(s.ctx, name, metav1.GetOptions{})
		s.must(err)
		n.Labels[name] = "updated"
		n, err = nodes.Update(s.ctx, n, metav1.UpdateOptions{})
		if err == nil && n.Labels[name] != "updated" {
			t.Errorf("the labels are %v", n.Labels)
		}
		return err
	})
	s.must(nodes.Delete(s.ctx, name, metav1.DeleteOptions{}))
	s.eventually(20*time.Second, "end of the node", func() error {
		if _, err := nodes.Get(s.ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return errors.Join(err, errors.New("it is still there"))
		}
		return nil
	})
}
