package scheduler

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/cache"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"skiff/scheduler/framework"
)

// listen registers the event handlers with the informers.
func (s *Scheduler) listen() error {
	f := s.cfg.Informers
	pods, nodes := f.Core().V1().Pods().Informer(), f.Core().V1().Nodes().Informer()
	if err := s.on(pods, handlers(s.podAdded, s.podUpdated, s.podDeleted)); err != nil {
		return fmt.Errorf("scheduler: watching pods: %w", err)
	}
	if err := s.on(nodes, handlers(s.nodeAdded, s.nodeUpdated, s.nodeDeleted)); err != nil {
		return fmt.Errorf("scheduler: watching nodes: %w", err)
	}
	for res, inf := range map[framework.EventResource]cache.SharedIndexInformer{
		framework.PersistentVolume:      f.Core().V1().PersistentVolumes().Informer(),
		framework.PersistentVolumeClaim: f.Core().V1().PersistentVolumeClaims().Informer(),
		framework.StorageClass:          f.Storage().V1().StorageClasses().Informer(),
		framework.CSINode:               f.Storage().V1().CSINodes().Informer(),
		framework.CSIDriver:             f.Storage().V1().CSIDrivers().Informer(),
		framework.CSIStorageCapacity:    f.Storage().V1().CSIStorageCapacities().Informer(),
		framework.VolumeAttachment:      f.Storage().V1().VolumeAttachments().Informer(),
		framework.ResourceClaim:         f.Resource().V1().ResourceClaims().Informer(),
		framework.ResourceSlice:         f.Resource().V1().ResourceSlices().Informer(),
		framework.DeviceClass:           f.Resource().V1().DeviceClasses().Informer(),
		framework.DeviceTaintRule:       f.Resource().V1().DeviceTaintRules().Informer(),
	} {
		if err := s.on(inf, s.forward(res)); err != nil {
			return fmt.Errorf("scheduler: watching %s: %w", res, err)
		}
	}
	return nil
}

func (s *Scheduler) on(inf cache.SharedIndexInformer, h cache.ResourceEventHandler) error {
	reg, err := inf.AddEventHandler(h)
	if err != nil {
		return err
	}
	s.synced = append(s.synced, reg.HasSynced)
	return nil
}

// waitHandlers waits until the first list of each kind went through the handlers.
func (s *Scheduler) waitHandlers(ctx context.Context) bool {
	return cache.WaitForCacheSync(ctx.Done(), s.synced...)
}

// handlers turns typed functions into a handler; a missed delete comes with the last known state.
func handlers[T any](add func(T), update func(oldObj, newObj T), del func(T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if o, ok := obj.(T); ok {
				add(o)
			}
		},
		UpdateFunc: func(a, b any) {
			o, ok := a.(T)
			n, ok2 := b.(T)
			if ok && ok2 {
				update(o, n)
			}
		},
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if o, ok := obj.(T); ok {
				del(o)
			}
		},
	}
}

// forward passes the events of a kind that only plugins look at on to the queue.
func (s *Scheduler) forward(res framework.EventResource) cache.ResourceEventHandler {
	move := func(a framework.ActionType, oldObj, newObj any) {
		s.queue.Move(framework.ClusterEvent{Resource: res, Action: a}, oldObj, newObj, nil)
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { move(framework.Add, nil, obj) },
		UpdateFunc: func(a, b any) { move(framework.Update, a, b) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			move(framework.Delete, obj, nil)
		},
	}
}

func done(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed }

func (s *Scheduler) ours(p *v1.Pod) bool { return s.profiles[p.Spec.SchedulerName] != nil }

func (s *Scheduler) podAdded(p *v1.Pod) {
	switch {
	case done(p):
	case p.Spec.NodeName != "":
		s.assignedSet(nil, p)
	case s.ours(p):
		s.queue.Add(p)
	}
}

func (s *Scheduler) podUpdated(oldPod, p *v1.Pod) {
	if oldPod.UID != p.UID {
		// Deleted and made again between two lists.
		s.podDeleted(oldPod)
		s.podAdded(p)
		return
	}
	if done(p) {
		if !done(oldPod) {
			s.podDeleted(oldPod)
		}
		return
	}
	switch {
	case p.Spec.NodeName == "":
		if s.ours(p) && !s.cache.IsAssumed(p.UID) && (oldPod.ResourceVersion != p.ResourceVersion) {
			s.queue.Update(oldPod, p)
		}
	case oldPod.Spec.NodeName == "":
		if s.ours(p) {
			s.queue.Delete(p)
		}
		s.assignedSet(nil, p)
	default:
		s.assignedSet(oldPod, p)
	}
}

func (s *Scheduler) podDeleted(p *v1.Pod) {
	if p.Spec.NodeName != "" {
		s.assignedGone(p)
		return
	}
	if !s.ours(p) {
		return
	}
	s.queue.Delete(p)
	s.profiles[p.Spec.SchedulerName].RejectWaiting(p, "removed")
	if s.cache.IsAssumed(p.UID) {
		// It goes on until the binding fails, which forgets it.
		return
	}
}

// assignedSet counts a pod that has a node.
func (s *Scheduler) assignedSet(oldPod, p *v1.Pod) {
	info, err := framework.NewPodInfo(p)
	if err != nil {
		klog.ErrorS(err, "Pod has an unparsable affinity term", "pod", klog.KObj(p))
	}
	if err := s.cache.SetPod(info); err != nil {
		klog.ErrorS(err, "Counting a pod failed", "pod", klog.KObj(p))
	}
	action, old := framework.Add, any(nil)
	if oldPod != nil {
		action, old = framework.PodActions(oldPod, p), oldPod
	}
	s.queue.Move(framework.ClusterEvent{Resource: framework.AssignedPod, Action: action}, old, p, nil)
}

func (s *Scheduler) assignedGone(p *v1.Pod) {
	if err := s.cache.RemovePod(p.UID); err != nil {
		klog.ErrorS(err, "Forgetting a pod failed", "pod", klog.KObj(p))
	}
	s.queue.Move(framework.ClusterEvent{Resource: framework.AssignedPod, Action: framework.Delete}, p, nil, nil)
}

func (s *Scheduler) nodeAdded(n *v1.Node) {
	s.cache.SetNode(n)
	s.queue.Move(framework.ClusterEvent{Resource: framework.Node, Action: framework.Add}, nil, n, mayFit(n))
}

func (s *Scheduler) nodeUpdated(oldNode, n *v1.Node) {
	if equality.Semantic.DeepEqual(oldNode, n) {
		return
	}
	s.cache.SetNode(n)
	if a := framework.NodeActions(oldNode, n); a != 0 {
		s.queue.Move(framework.ClusterEvent{Resource: framework.Node, Action: a}, oldNode, n, mayFit(n))
	}
}

func (s *Scheduler) nodeDeleted(n *v1.Node) {
	s.cache.RemoveNode(n.Name)
	s.queue.Move(framework.ClusterEvent{Resource: framework.Node, Action: framework.Delete}, n, nil, nil)
}

// mayFit is the cheap test whether a pod could go to the node at all. Spreading
// looks at all nodes, so pods with constraints always pass.
func mayFit(n *v1.Node) func(*v1.Pod) bool {
	return func(p *v1.Pod) bool {
		if len(p.Spec.TopologySpreadConstraints) > 0 {
			return true
		}
		if match, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n); err == nil && !match {
			return false
		}
		_, tainted := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), n.Spec.Taints, p.Spec.Tolerations, func(t *v1.Taint) bool { return t.Effect == v1.TaintEffectNoSchedule }, true)
		return !tainted
	}
}
