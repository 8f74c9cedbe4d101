package kubelet

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"skiff/cluster/tracing"
	"skiff/kubelet/podstate"
	"skiff/kubelet/status"
)

// step moves a pod on as far as it goes now.
func (k *Kubelet) step(ctx context.Context, uid types.UID) time.Duration {
	for ctx.Err() == nil {
		r := k.snapshot(uid)
		if r == nil {
			return k.orphan(ctx, uid)
		}
		if r.stage == syncing && k.mustEnd(r) {
			k.update(uid, func(r *record) { r.stage = terminating })
			continue
		}
		again, err := k.one(ctx, r)
		if err != nil {
			if ctx.Err() != nil {
				// Interrupted: whoever did it has asked for another step.
				return again
			}
			wait := k.failed(ctx, r, err)
			if again == 0 || again > wait {
				again = wait
			}
			return again
		}
		k.update(uid, func(r *record) { r.failures = 0 })
		now := k.snapshot(uid)
		if now != nil && (now.stage != r.stage || now.failure != r.failure || now.stage == syncing && k.mustEnd(now)) {
			continue
		}
		return again
	}
	return 0
}

// one takes one step of a pod, and traces it.
func (k *Kubelet) one(ctx context.Context, r *record) (again time.Duration, err error) {
	do, name := k.sync, "syncPod"
	switch r.stage {
	case terminating:
		do, name = k.terminate, "syncTerminatingPod"
	case terminated:
		do, name = k.cleanUp, "syncTerminatedPod"
	}
	ctx, end := tracing.Root(ctx, k.cfg.Tracing, name,
		attribute.String("k8s.pod.uid", string(r.pod.UID)), attribute.String("k8s.pod", klog.KObj(r.pod).String()),
		attribute.String("k8s.pod.name", r.pod.Name), attribute.String("k8s.namespace.name", r.pod.Namespace))
	defer func() { end(err) }()
	return do(ctx, r)
}

// errQuiet is a failure that has been told of already.
var errQuiet = errors.New("reported")

// failed notes a failed step and says when to try again.
func (k *Kubelet) failed(ctx context.Context, r *record, err error) time.Duration {
	k.update(r.pod.UID, func(r *record) { r.failures++ })
	if !errors.Is(err, errQuiet) {
		klog.FromContext(ctx).Info("Error syncing pod, will try again", "pod", klog.KObj(r.pod), "podUID", r.pod.UID, "err", err)
	}
	return min(500*time.Millisecond<<min(r.failures, 7), time.Minute)
}

// mustEnd reports whether a pod may not run any longer.
func (k *Kubelet) mustEnd(r *record) bool {
	return r.pod.DeletionTimestamp != nil || r.removed || r.failure != nil || r.finished
}

// observe reads the pod's state, keeps the probes in step and returns the
// status that follows. terminal says that the pod will not run any more.
func (k *Kubelet) observe(ctx context.Context, r *record, terminal bool) (*podstate.Pod, v1.PodStatus, error) {
	pod := r.pod
	state, err := podstate.Read(ctx, k.cfg.Runtime, pod.UID)
	if err != nil {
		return nil, v1.PodStatus{}, err
	}
	old := k.oldStatus(r)
	k.follow(r, state, old)
	var resize []v1.PodCondition
	if r.pending != nil {
		resize = append(resize, *r.pending)
	}
	if c := inProgress(k.changes(pod, state), r.resizeError); c != nil && r.stage == syncing {
		resize = append(resize, *c)
	}
	st := status.Generate(status.Input{
		Pod: pod, Resize: resize, State: state, Old: old, Probes: k.probes, HostIPs: k.cfg.NodeIPs, Terminal: terminal, Failure: r.failure,
		Reason:    func(c string) (reason, bool) { return k.manager.WaitReason(pod.UID, c) },
		Resources: func(c string) []v1.ResourceStatus { return k.deviceStatus(pod, c) },
		Message:   lastWords, Runtime: k.runtimeState.name(), Now: metav1.Now(),
	})
	return state, st, nil
}

// oldStatus is the newest status of the pod, at first the API server's.
func (k *Kubelet) oldStatus(r *record) v1.PodStatus {
	if st, ok := k.status.Get(r.pod.UID); ok {
		// Conditions of others are the API server's.
		for _, c := range r.pod.Status.Conditions {
			if !has(st.Conditions, c.Type) {
				st.Conditions = append(st.Conditions, c)
			} else if isGate(r.pod, c.Type) {
				for i := range st.Conditions {
					if st.Conditions[i].Type == c.Type {
						st.Conditions[i] = c
					}
				}
			}
		}
		return st
	}
	if r.static && r.mirror != nil && r.mirror.Annotations[v1.MirrorPodAnnotationKey] == r.pod.Annotations[annotationHash] {
		// A mirror of the manifest as it was before tells how that pod ended.
		return r.mirror.Status
	}
	return r.pod.Status
}

func has(list []v1.PodCondition, kind v1.PodConditionType) bool {
	for i := range list {
		if list[i].Type == kind {
			return true
		}
	}
	return false
}

func isGate(pod *v1.Pod, kind v1.PodConditionType) bool {
	for _, g := range pod.Spec.ReadinessGates {
		if g.ConditionType == kind {
			return true
		}
	}
	return false
}

// follow starts and stops probes as containers do.
func (k *Kubelet) follow(r *record, state *podstate.Pod, old v1.PodStatus) {
	pod := r.pod
	ip := ""
	if pod.Spec.HostNetwork {
		ip = k.cfg.NodeIPs[0]
	} else if s := state.ReadySandbox(); s != nil && len(s.IPs) > 0 {
		ip = s.IPs[0]
	}
	ready := map[string]bool{}
	for _, list := range [][]v1.ContainerStatus{old.ContainerStatuses, old.InitContainerStatuses} {
		for i := range list {
			_, id := splitID(list[i].ContainerID)
			ready[id] = list[i].Ready
		}
	}
	each := func(c *v1.Container) {
		st := state.Latest(c.Name)
		if st == nil || st.State != podstate.Running {
			k.probes.Stopped(pod.UID, c.Name, "")
			return
		}
		if c.LivenessProbe != nil || c.ReadinessProbe != nil || c.StartupProbe != nil {
			if r.stage == syncing {
				k.probes.Container(pod, c, st.ID, ip, st.StartedAt, ready[st.ID])
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		each(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		each(&pod.Spec.Containers[i])
	}
}
