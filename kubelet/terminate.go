package kubelet

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"skiff/kubelet/podstate"
	"skiff/kubelet/shutdown"
)

// reasonEvicted is why the eviction manager ends a pod.
const reasonEvicted = "Evicted"

// terminate ends what runs of a pod.
func (k *Kubelet) terminate(ctx context.Context, r *record) (time.Duration, error) {
	pod := r.pod
	k.probes.StopLiveness(pod.UID)
	state, st, err := k.observe(ctx, r, false)
	if err != nil {
		return 0, err
	}
	if state.Active() {
		if st.Phase == v1.PodSucceeded || st.Phase == v1.PodFailed {
			st.Phase, st.Reason, st.Message = k.oldStatus(r).Phase, "", ""
			if st.Phase == "" {
				st.Phase = v1.PodPending
			}
		}
		k.status.Set(pod, st, r.static)
	}
	// Volumes stay for preStop hooks and for what the containers write. A sandbox
	// that is not ready may still have a network to give back.
	if err := k.manager.KillPod(ctx, pod, state, r.grace); err != nil {
		if ctx.Err() == nil {
			k.recorder.Event(pod, v1.EventTypeWarning, "FailedKillPod", fmt.Sprintf("error killing pod: %v", err))
		}
		return time.Second, err
	}
	if state.Active() {
		if state, _, err = k.observe(ctx, r, false); err != nil {
			return 0, err
		}
		if state.Active() {
			return 500 * time.Millisecond, nil
		}
	}
	if err := k.claims.Unprepare(ctx, pod.UID); err != nil {
		return 0, err
	}
	if _, st, err = k.observe(ctx, r, true); err != nil {
		return 0, err
	}
	k.probes.Forget(pod.UID)
	k.release(ctx, pod.UID)
	k.status.Set(pod, st, r.static)
	k.update(pod.UID, func(r *record) {
		r.stage = terminated
		if r.killed != nil {
			close(r.killed)
			r.killed = nil
		}
	})
	return 0, nil
}

// cleanUp gives back what a terminated pod used, and forgets a pod that its
// source does not have any more.
func (k *Kubelet) cleanUp(ctx context.Context, r *record) (time.Duration, error) {
	pod := r.pod
	if !r.reclaimed {
		if k.oldStatus(r).Reason == reasonEvicted {
			// What its containers wrote is what the node is to get back.
			state, err := podstate.Read(ctx, k.cfg.Runtime, pod.UID)
			if err != nil {
				return 0, err
			}
			if err := k.manager.Destroy(ctx, pod, state); err != nil {
				return 0, err
			}
		}
		if err := k.volumes.TearDown(ctx, pod.UID); err != nil {
			return 0, err
		}
		if k.cgroups != nil {
			if err := k.cgroups.RemovePod(pod.UID); err != nil {
				// The pod stays until it is gone: tell why.
				k.recorder.Event(pod, v1.EventTypeWarning, "FailedKillPod", fmt.Sprintf("error killing pod: %v", err))
				return 0, err
			}
		}
		k.update(pod.UID, func(r *record) { r.reclaimed = true })
		k.status.Poke(pod.UID)
	}
	if !r.removed {
		if r.static && r.mirror == nil {
			return 0, k.ensureMirror(ctx, r)
		}
		return 0, nil
	}
	state, err := podstate.Read(ctx, k.cfg.Runtime, pod.UID)
	if err != nil {
		return 0, err
	}
	if err := k.manager.Destroy(ctx, pod, state); err != nil {
		return 0, err
	}
	if r.static {
		if err := k.deleteMirror(ctx, r); err != nil {
			return 0, err
		}
	}
	k.forget(pod)
	return 0, nil
}

func (k *Kubelet) forget(pod *v1.Pod) {
	k.mu.Lock()
	if r := k.records[pod.UID]; r != nil && r.removed {
		delete(k.records, pod.UID)
	}
	k.mu.Unlock()
	k.manager.Forget(pod)
	k.counts.Forget(pod.UID)
	k.status.Forget(pod.UID)
	k.objects.Unregister(pod.UID)
	k.tokens.Forget(pod.UID)
	k.certificates.Forget(pod.UID)
	k.probes.Forget(pod.UID)
	k.users.Release(pod.UID)
	k.allocation.Forget(pod.UID)
}

// orphan ends a pod that the runtime has and no source knows.
func (k *Kubelet) orphan(ctx context.Context, uid types.UID) time.Duration {
	k.mu.Lock()
	ready := k.sourcesReady
	k.mu.Unlock()
	if !ready {
		return time.Second
	}
	state, err := podstate.Read(ctx, k.cfg.Runtime, uid)
	if err == nil {
		if len(state.Sandboxes) == 0 && len(state.Containers) == 0 {
			return 0
		}
		pod := podstate.RestoredPod(state)
		klog.FromContext(ctx).Info("Ending a pod that no source has", "pod", klog.KObj(pod), "podUID", uid)
		if err = k.manager.KillPod(ctx, pod, state, nil); err == nil {
			if state, err = podstate.Read(ctx, k.cfg.Runtime, uid); err == nil {
				err = k.manager.Destroy(ctx, pod, state)
			}
		}
		if err == nil {
			if err = k.volumes.TearDown(ctx, uid); err == nil && k.cgroups != nil {
				err = k.cgroups.RemovePod(uid)
			}
			k.release(ctx, uid)
			k.users.Release(uid)
			err = errors.Join(err, k.claims.Unprepare(ctx, uid))
		}
	}
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Info("Ending an orphaned pod failed, will try again", "podUID", uid, "err", err)
		return 5 * time.Second
	}
	return 0
}

// cleanOrphans looks for what pods left behind: folders and cgroups of pods
// that neither a source nor the runtime has, and mirrors of static pods.
func (k *Kubelet) cleanOrphans(ctx context.Context) error {
	ticker := time.NewTicker(30 * time.Second)
	defer ticker.Stop()
	for {
		k.mu.Lock()
		ready := k.sourcesReady
		k.mu.Unlock()
		if ready {
			k.cleanOnce(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (k *Kubelet) cleanOnce(ctx context.Context) {
	log := klog.FromContext(ctx)
	running, err := podstate.List(ctx, k.cfg.Runtime)
	if err != nil {
		return
	}
	known := func(uid types.UID) bool {
		if _, ok := running[uid]; ok {
			return true
		}
		return k.snapshot(uid) != nil
	}
	for uid := range running {
		if k.snapshot(uid) == nil {
			k.workers.Notify(uid)
		}
	}
	for _, retain := range []func(func(types.UID) bool) error{k.devices.Retain, k.cpus.Retain, k.memory.Retain} {
		if err := retain(known); err != nil {
			log.Info("Giving back what pods had that are gone failed, will try again", "err", err)
		}
	}
	k.claims.Abandon(ctx, known)
	dirs, err := k.volumes.Pods()
	if err != nil {
		log.Info("Listing pod folders failed", "err", err)
	}
	for _, uid := range dirs {
		if known(uid) {
			continue
		}
		if err := k.volumes.TearDown(ctx, uid); err != nil {
			log.Info("Cleaning up an orphaned pod's volumes failed, will try again", "podUID", uid, "err", err)
		}
	}
	if err := k.volumes.Sweep(ctx); err != nil {
		log.Info("Cleaning up volumes that no pod uses failed, will try again", "err", err)
	}
	if k.cgroups == nil {
		return
	}
	for uid := range k.cgroups.Pods() {
		if known(uid) {
			continue
		}
		if err := k.cgroups.RemovePod(uid); err != nil {
			log.V(2).Info("Removing an orphaned pod's cgroup failed, will try again", "podUID", uid, "err", err)
		}
	}
}

// endForShutdown ends all pods, one group after the other, each within its time.
// New pods are refused from now on.
func (k *Kubelet) endForShutdown(ctx context.Context, groups []shutdown.Group) {
	k.setShutdown(true)
	for i, pods := range shutdown.Of(groups, k.ActivePods()) {
		limit := time.NewTimer(groups[i].Time)
		for _, done := range k.killAll(groups[i], pods) {
			select {
			case <-done:
				continue
			case <-limit.C:
				klog.FromContext(ctx).Info("Not all pods of a group ended in its time before the machine shuts down", "priority", groups[i].Priority, "pods", len(pods), "time", groups[i].Time)
			case <-ctx.Done():
			}
			break
		}
		limit.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func (k *Kubelet) killAll(g shutdown.Group, pods []*v1.Pod) []<-chan struct{} {
	var out []<-chan struct{}
	for _, pod := range pods {
		grace := shutdown.Grace(g, pod)
		out = append(out, k.KillPod(pod.UID, shutdownFailure(), &grace))
	}
	return out
}

// setShutdown tells the node's readers and new pods that it shuts down, or not.
func (k *Kubelet) setShutdown(down bool) {
	k.mu.Lock()
	k.shutdown = down
	k.mu.Unlock()
	k.node.Poke()
}

func (k *Kubelet) shuttingDown() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.shutdown
}

// RunningPods are the pods that the runtime has, as /runningpods tells.
func (k *Kubelet) RunningPods(ctx context.Context) ([]*v1.Pod, error) {
	list, err := podstate.List(ctx, k.cfg.Runtime)
	if err != nil {
		return nil, err
	}
	var out []*v1.Pod
	for uid := range list {
		state, err := podstate.Read(ctx, k.cfg.Runtime, uid)
		if err != nil {
			return nil, err
		}
		if len(state.Running()) == 0 {
			continue
		}
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid, Name: state.Name, Namespace: state.Namespace}}
		for _, c := range state.Running() {
			pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: c.Name, Image: c.Image})
		}
		out = append(out, pod)
	}
	return out, nil
}
