package bench

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// fakeNodes is how many nodes without a kubelet the pods are spread over.
const fakeNodes = 20

// schedule measures the way of pods from their creation to a node. The nodes are
// objects alone: nothing runs.
func schedule(ctx context.Context, r *run) (err error) {
	if r.cfg.ScheduledPods == 0 {
		return nil
	}
	nodes := r.clients[0].CoreV1().Nodes()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if e := r.removePods(end, "schedule"); e != nil && err == nil {
			err = e
		}
		for i := range fakeNodes {
			if e := nodes.Delete(end, fakeNode(i), metav1.DeleteOptions{}); e != nil && err == nil {
				err = e
			}
		}
	}()
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000"), corev1.ResourceMemory: resource.MustParse("1Ti"), corev1.ResourcePods: resource.MustParse("100000")}
	for i := range fakeNodes {
		n := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fakeNode(i), Labels: map[string]string{"bench": r.cfg.Namespace}},
			Status:     corev1.NodeStatus{Capacity: room, Allocatable: room},
		}
		if _, err := nodes.Create(ctx, n, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	p := corev1.PodSpec{
		NodeSelector: map[string]string{"bench": r.cfg.Namespace},
		// Without a kubelet the nodes are not ready.
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers:  []corev1.Container{{Name: "none", Image: "none"}},
	}
	return r.pods(ctx, "schedule", r.cfg.ScheduledPods, len(r.clients), p, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
}

func fakeNode(i int) string { return fmt.Sprintf("bench-node-%d", i) }

// podStart measures the way of pods, one by one, from their creation to Running.
func podStart(ctx context.Context, r *run) (err error) {
	if r.cfg.Image == "" {
		return nil
	}
	defer r.removed("pod-start", &err)
	return r.pods(ctx, "pod-start", r.cfg.StartedPods, 1, r.sleeper(), func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
}

// pods makes n pods, by some clients, and measures until each is as wanted.
func (r *run) pods(ctx context.Context, kind string, n, clients int, spec corev1.PodSpec, done func(*corev1.Pod) bool) error {
	ctx, stop := context.WithTimeout(ctx, 5*time.Minute)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seen, err := r.follow(ctx, cancel, kind, n, done)
	if err != nil {
		return err
	}
	some := *r
	some.clients = r.clients[:clients]
	return some.spread(ctx, kind, n, func(ctx context.Context, k kubernetes.Interface, i int) error {
		if err := r.createPod(ctx, k, kind, i, *spec.DeepCopy()); err != nil {
			return err
		}
		select {
		case <-seen[i]:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

// follow watches the pods of a measurement and tells for each when it was as
// wanted; it cancels when it can see no more. Where no time is left between two pods, one watch per pod would measure
// the watches.
func (r *run) follow(ctx context.Context, cancel context.CancelCauseFunc, kind string, n int, done func(*corev1.Pod) bool) ([]chan time.Time, error) {
	from, err := r.clients[0].CoreV1().Pods(r.cfg.Namespace).Watch(ctx, metav1.ListOptions{LabelSelector: "bench=" + kind})
	if err != nil {
		return nil, err
	}
	seen := make([]chan time.Time, n)
	for i := range seen {
		seen[i] = make(chan time.Time, 1)
	}
	go func() {
		defer from.Stop()
		reached := make([]bool, n)
		for e := range from.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				cancel(fmt.Errorf("%s: the watch sent %T", kind, e.Object))
				return
			}
			var i int
			if _, err := fmt.Sscan(p.Annotations["number"], &i); err == nil && i >= 0 && i < n && !reached[i] && done(p) {
				reached[i] = true
				seen[i] <- time.Now()
			}
		}
	}()
	return seen, nil
}

// removed ends a measurement of pods.
func (r *run) removed(kind string, err *error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if e := r.removePods(ctx, kind); e != nil && *err == nil {
		*err = e
	}
}

// removePods deletes the pods of a measurement and waits until they are gone.
func (r *run) removePods(ctx context.Context, kind string) error {
	pods := r.clients[0].CoreV1().Pods(r.cfg.Namespace)
	of := metav1.ListOptions{LabelSelector: "bench=" + kind}
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}, of); err != nil {
		return err
	}
	l, err := pods.List(ctx, of)
	if err != nil || len(l.Items) == 0 {
		return err
	}
	left := make(map[string]bool)
	for i := range l.Items {
		left[l.Items[i].Name] = true
	}
	of.ResourceVersion = l.ResourceVersion
	from, err := pods.Watch(ctx, of)
	if err != nil {
		return err
	}
	defer from.Stop()
	for e := range from.ResultChan() {
		if p, ok := e.Object.(*corev1.Pod); ok && e.Type == watch.Deleted {
			delete(left, p.Name)
		}
		if len(left) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%s: %d pods are still there", kind, len(left))
}
