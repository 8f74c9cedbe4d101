package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/klog/v2"

	"skiff/kubelet/admission"
	"skiff/kubelet/allocation"
	"skiff/kubelet/apparmor"
	"skiff/kubelet/containers"
	"skiff/kubelet/images"
	"skiff/kubelet/podstate"
	"skiff/kubelet/status"
	"skiff/kubelet/volumes"
)

type reason = containers.Reason

// resizeRetry is how often a pod that the node has no room to resize is tried.
const resizeRetry = 3 * time.Second

// sync does the next thing for a pod that is to run.
func (k *Kubelet) sync(ctx context.Context, r *record) (time.Duration, error) {
	if r.static && k.predecessor(r) {
		return time.Second, nil
	}
	k.objects.Register(r.pod)
	if r.admitted {
		asked, was := r.pod, r.pending
		var err error
		if r.pod, r.pending, err = k.allocate(r); err != nil {
			return 0, err
		}
		k.resizePending(asked, was, r.pending)
		k.update(r.pod.UID, func(kept *record) { kept.pending, kept.resizing = r.pending, r.resizing })
	}
	pod := r.pod
	state, st, err := k.observe(ctx, r, false)
	if err != nil {
		return 0, err
	}
	if !r.admitted {
		switch k.admit(ctx, r, state) {
		case refused:
			return 0, nil
		case waits:
			return leavingRetry, nil
		}
	}
	if deadline, ok := status.Deadline(pod, st.StartTime); ok && !time.Now().Before(deadline) {
		k.recorder.Event(pod, v1.EventTypeNormal, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
		k.update(pod.UID, func(r *record) {
			r.failure = &status.Failure{Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}
		})
		return 0, nil
	}
	if k.setStatus(r, state, st) {
		return 0, nil
	}
	if r.static {
		if err := k.ensureMirror(ctx, r); err != nil {
			return 0, err
		}
	}
	if message := k.runtimeState.networkError(); message != "" && !pod.Spec.HostNetwork {
		k.recorder.Event(pod, v1.EventTypeWarning, "NetworkNotReady", "network is not ready: "+message)
		return time.Second, errQuiet
	}
	stale, err := k.prepare(ctx, pod, state.ReadySandbox() == nil)
	if err != nil {
		if k.waitsForImage(pod, err) {
			if state, st, seen := k.observe(ctx, r, false); seen == nil {
				k.setStatus(r, state, st)
			}
		}
		return 0, err
	}
	plan := containers.Compute(pod, state, k.probes, restarts(pod, state, k.changes(pod, state)))
	out := k.manager.Execute(ctx, pod, state, plan, k.pullSecrets(ctx, pod))
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if state, err = podstate.Read(ctx, k.cfg.Runtime, pod.UID); err != nil {
		return 0, err
	}
	failed := r.resizeError
	r.resizeError = k.resize(ctx, pod, state)
	out.Err = errors.Join(out.Err, r.resizeError)
	// What was changed, and why a container waits, shows at once.
	if state, st, err = k.observe(ctx, r, false); err != nil {
		return 0, err
	}
	resizing := r.resizing
	r.resizing = k.resizeDone(pod, resizing, len(k.changes(pod, state)) > 0, failed, r.resizeError)
	k.update(pod.UID, func(kept *record) { kept.resizing, kept.resizeError = r.resizing, r.resizeError })
	k.setStatus(r, state, st)
	if resizing != 0 && r.resizing == 0 {
		// What the containers had before counts no longer.
		out.Err = errors.Join(out.Err, k.ensureCgroup(pod))
	}
	if err := k.manager.Prune(ctx, pod, state); err != nil {
		out.Err = errors.Join(out.Err, err)
	}
	again := out.Retry
	soonest := func(d time.Duration) {
		if d > 0 && (again == 0 || d < again) {
			again = d
		}
	}
	if deadline, ok := status.Deadline(pod, st.StartTime); ok {
		soonest(max(time.Until(deadline), time.Millisecond))
	}
	soonest(k.tokens.RenewIn(pod.UID))
	soonest(k.certificates.RefreshIn(pod.UID))
	if stale {
		soonest(staleRetry)
	}
	soonest(k.volumes.RefreshIn(pod.UID))
	if r.pending != nil && r.pending.Reason == v1.PodReasonDeferred {
		soonest(resizeRetry)
	}
	if out.Err != nil && out.Retry > 0 {
		// Each container's failure has its event and waits out its back-off.
		return again, nil
	}
	return again, out.Err
}

// setStatus publishes a status. A pod whose containers have all done their
// work ends; true tells of that.
func (k *Kubelet) setStatus(r *record, state *podstate.Pod, st v1.PodStatus) bool {
	finished := st.Phase == v1.PodSucceeded || st.Phase == v1.PodFailed
	if finished {
		k.update(r.pod.UID, func(r *record) { r.finished = true })
		if state.Active() {
			// The final phase waits for the sandbox and the sidecars to end.
			st.Phase = k.oldStatus(r).Phase
			if st.Phase == "" {
				st.Phase = v1.PodPending
			}
		}
	}
	if st.Phase == v1.PodRunning && !r.adopted && k.oldStatus(r).Phase == v1.PodPending {
		k.counts.Runs(time.Since(r.started))
	}
	k.status.Set(r.pod, st, r.static)
	return finished
}

// predecessor reports whether an older pod of the same name still ends.
func (k *Kubelet) predecessor(r *record) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for uid, other := range k.records {
		if uid != r.pod.UID && other.static && fullName(other.pod) == fullName(r.pod) && other.stage != terminated && other.started.Before(r.started) {
			return true
		}
	}
	return false
}

// verdict is what admission says of a pod.
type verdict int

const (
	taken verdict = iota
	refused
	// waits is for what a pod still has that the API server knows no more: it was deleted
	// without grace, the scheduler gave its place away, and it is about to be gone.
	waits
)

// leavingRetry is how often a pod is tried that waits.
const leavingRetry = 100 * time.Millisecond

// admit decides whether the node takes the pod.
func (k *Kubelet) admit(ctx context.Context, r *record, state *podstate.Pod) verdict {
	k.admitMu.Lock()
	defer k.admitMu.Unlock()
	uid := r.pod.UID
	if len(state.Sandboxes) > 0 {
		// An earlier kubelet took it.
		if err := k.setAsideAgain(ctx, r.pod, state); err != nil {
			klog.FromContext(ctx).Info("A pod that runs keeps no CPUs or memory to itself", "pod", klog.KObj(r.pod), "err", err)
		}
		k.update(uid, func(r *record) { r.admitted, r.adopted = true, true })
		return taken
	}
	in := admission.Input{Pod: r.pod, Node: k.node.Node(), Others: k.ActivePods(), UnsafeSysctls: k.cfg.Kubelet.AllowedUnsafeSysctls, Managed: k.devices.Managed, AppArmor: apparmor.Enabled()}
	if in.Node == nil {
		in.Node = k.ownNode()
	}
	in.MemoryPressure, in.DiskPressure, in.PIDPressure = k.eviction.Pressure()
	staying := k.staying(in.Others)
	leaving := len(staying) < len(in.Others)
	refusal := k.check(ctx, in)
	if refusal != nil && leaving {
		if in.Others = staying; admission.Check(in) == nil {
			return waits
		}
	}
	if refusal == nil && k.shuttingDown() {
		refusal = &admission.Refusal{Reason: "NodeShutdown", Message: "Pod was rejected as the node is shutting down."}
	}
	if refusal == nil {
		if refusal = k.setAside(ctx, r.pod); refusal != nil && leaving {
			return waits
		}
	}
	if refusal == nil {
		k.update(uid, func(r *record) { r.admitted = true })
		if err := k.allocation.Give(uid, allocation.Of(r.pod)); err != nil {
			klog.Background().Info("The resources of a pod could not be noted; a later kubelet takes those that it asks for then", "pod", klog.KObj(r.pod), "err", err)
		}
		return taken
	}
	k.recorder.Event(r.pod, v1.EventTypeWarning, refusal.Reason, refusal.Message)
	k.update(uid, func(r *record) {
		r.failure = &status.Failure{Reason: refusal.Reason, Message: "Pod was rejected: " + refusal.Message}
	})
	return refused
}

// nodeRead is how long the API server may take to tell of the node.
const nodeRead = 10 * time.Second

// check is admission's answer. The scheduler may have seen labels of the node that
// this kubelet's watch has not told of yet: a pod that would be refused for them, for
// good, is checked once more with the node as the API server has it.
func (k *Kubelet) check(ctx context.Context, in admission.Input) *admission.Refusal {
	refusal := admission.Check(in)
	if refusal == nil || refusal.Reason != admission.NodeAffinity {
		return refusal
	}
	ctx, cancel := context.WithTimeout(ctx, nodeRead)
	defer cancel()
	node, err := k.cfg.Client.CoreV1().Nodes().Get(ctx, k.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return refusal
	}
	in.Node = node
	return admission.Check(in)
}

// ownNode is the node as it will register, for pods that come before it did.
func (k *Kubelet) ownNode() *v1.Node {
	node := &v1.Node{}
	node.Name, node.Labels = k.cfg.NodeName, k.cfg.NodeLabels
	node.Status.Capacity, node.Status.Allocatable = k.capacity, k.allocatable
	return node
}

// staleRetry is how long a volume that could not be brought up to date waits.
const staleRetry = 30 * time.Second

// prepare makes the pod's cgroup, folders and volumes. stale tells of a volume
// that shows what it did before; the pod goes on with it. A pod that has a
// sandbox got its claims prepared by whoever made that.
func (k *Kubelet) prepare(ctx context.Context, pod *v1.Pod, fresh bool) (stale bool, err error) {
	if err := k.ensureCgroup(pod); err != nil {
		k.recorder.Event(pod, v1.EventTypeWarning, "FailedCreatePodContainer", fmt.Sprintf("unable to ensure pod container exists: %v", err))
		return false, err
	}
	dir := k.volumes.PodDir(pod.UID)
	for _, d := range []string{"volumes", "plugins", "containers"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o750); err != nil {
			k.recorder.Event(pod, v1.EventTypeWarning, "Failed", fmt.Sprintf("error making pod data directories: %v", err))
			return false, err
		}
	}
	if fresh {
		if err := k.claims.Prepare(ctx, pod); err != nil {
			if ctx.Err() == nil {
				k.recorder.Event(pod, v1.EventTypeWarning, "FailedPrepareDynamicResources", fmt.Sprintf("Failed to prepare dynamic resources: %v", err))
			}
			return false, err
		}
	}
	failures := k.volumes.SetUp(ctx, pod)
	if len(failures) == 0 {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	var errs []error
	for _, f := range failures {
		// The puller has told of an image already.
		if !errors.As(f, new(*images.Failure)) {
			k.recorder.Event(pod, v1.EventTypeWarning, "FailedMount", f.Message)
		}
		if f.Stale {
			stale = true
			continue
		}
		errs = append(errs, f)
	}
	if len(errs) == 0 {
		return stale, nil
	}
	return false, unready(errs)
}

// unready are volumes that are not there.
type unready []error

func (u unready) Error() string {
	texts := make([]string, len(u))
	for i, err := range u {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (u unready) Unwrap() []error { return u }

// waitsForImage notes which containers wait for the images of their volumes.
func (k *Kubelet) waitsForImage(pod *v1.Pod, err error) bool {
	var failures unready
	errors.As(err, &failures)
	waits := false
	for _, err := range failures {
		at, why := (*volumes.Error)(nil), (*images.Failure)(nil)
		if errors.As(err, &at) && errors.As(err, &why) {
			k.manager.WaitForVolume(pod, at.Volume, reason{Reason: why.Reason.Error(), Message: why.Message})
			waits = true
		}
	}
	return waits
}

// pullSecrets are the pod's pull secrets that exist.
func (k *Kubelet) pullSecrets(ctx context.Context, pod *v1.Pod) []v1.Secret {
	var out []v1.Secret
	var missing []string
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue
		}
		secret, err := k.objects.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			if apierrors.IsNotFound(err) {
				missing = append(missing, ref.Name)
			}
			continue
		}
		out = append(out, *secret)
	}
	if len(missing) > 0 {
		k.recorder.Event(pod, v1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
			fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", ")))
	}
	return out
}
