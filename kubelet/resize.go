package kubelet

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/admission"
	"skiff/kubelet/allocation"
	"skiff/kubelet/containers"
	"skiff/kubelet/cpus"
	"skiff/kubelet/memory"
	"skiff/kubelet/podstate"
	"skiff/kubelet/resources"
)

// allocate returns the pod with the resources that the node gives it, and, where
// these are not the ones that it asks for, the condition that says why.
func (k *Kubelet) allocate(r *record) (*v1.Pod, *v1.PodCondition, error) {
	asked := allocation.Of(r.pod)
	given, known := k.allocation.Given(r.pod.UID)
	if r.static || known && allocation.Same(given, asked) {
		return r.pod, nil, nil
	}
	if !known {
		return r.pod, nil, k.allocation.Give(r.pod.UID, asked)
	}
	k.admitMu.Lock()
	defer k.admitMu.Unlock()
	asking := r.pod.DeepCopy()
	asking.Status = v1.PodStatus{} // it tells what the pod has, not what it asks for
	in := admission.Input{Pod: asking, Node: k.node.Node()}
	if in.Node == nil {
		in.Node = k.ownNode()
	}
	for _, p := range k.ActivePods() {
		if p.UID != r.pod.UID {
			in.Others = append(in.Others, p)
		}
	}
	pending := &v1.PodCondition{Type: v1.PodResizePending, Status: v1.ConditionTrue}
	if why := k.neverResizes(given.In(r.pod), asking); why != "" {
		pending.Reason, pending.Message = v1.PodReasonInfeasible, why
		return given.In(r.pod), pending, nil
	}
	if refusal := admission.TooLarge(in); refusal != nil {
		pending.Reason, pending.Message = v1.PodReasonInfeasible, refusal.Message
		return given.In(r.pod), pending, nil
	}
	if refusal := admission.Fits(in); refusal != nil {
		pending.Reason, pending.Message = v1.PodReasonDeferred, refusal.Message
		return given.In(r.pod), pending, nil
	}
	if err := k.allocation.Give(r.pod.UID, asked); err != nil {
		return r.pod, nil, err
	}
	r.resizing = r.pod.Generation
	k.recorder.Event(r.pod, v1.EventTypeNormal, "ResizeStarted", resizeMessage("started", r.pod, r.pod.Generation, ""))
	return r.pod, nil, nil
}

// neverResizes says why a pod cannot be resized while it runs, whatever room there is:
// what a static policy has set aside for it stays as it is, and so does the swap that
// goes with a memory request. Empty means that it can.
func (k *Kubelet) neverResizes(has, asks *v1.Pod) string {
	c := k.cfg.Kubelet
	if resources.QOS(asks) == v1.PodQOSGuaranteed {
		if c.CPUManagerPolicy == cpus.Static && len(asksOther(has, asks, v1.ResourceCPU)) > 0 {
			return fmt.Sprintf("Resize is infeasible for Guaranteed Pods alongside CPU Manager policy %q", cpus.Static)
		}
		if c.MemoryManagerPolicy == memory.Static && len(asksOther(has, asks, v1.ResourceMemory)) > 0 {
			return fmt.Sprintf("Resize is infeasible for Guaranteed Pods alongside Memory Manager policy %q", memory.Static)
		}
	}
	for _, pair := range asksOther(has, asks, v1.ResourceMemory) {
		restarts := slices.ContainsFunc(pair.has.ResizePolicy, func(p v1.ContainerResizePolicy) bool {
			return p.ResourceName == v1.ResourceMemory && p.RestartPolicy == v1.RestartContainer
		})
		if !restarts && (k.settings.Swap.Shares(has, pair.has) || k.settings.Swap.Shares(asks, pair.asks)) {
			return "In-place resize of containers with swap is not supported."
		}
	}
	return ""
}

// resized is a container as it is and as it is to be.
type resized struct{ has, asks *v1.Container }

// asksOther are the containers that ask for more or less of a resource than they have.
func asksOther(has, asks *v1.Pod, name v1.ResourceName) []resized {
	var out []resized
	for _, lists := range [][2][]v1.Container{{has.Spec.InitContainers, asks.Spec.InitContainers}, {has.Spec.Containers, asks.Spec.Containers}} {
		for i := range min(len(lists[0]), len(lists[1])) {
			pair := resized{&lists[0][i], &lists[1][i]}
			before, now := pair.has.Resources.Requests[name], pair.asks.Resources.Requests[name]
			if before.Cmp(now) != 0 {
				out = append(out, pair)
			}
		}
	}
	return out
}

// given is the pod as the node has taken it.
func (k *Kubelet) given(pod *v1.Pod) *v1.Pod {
	if given, ok := k.allocation.Given(pod.UID); ok && !allocation.Same(given, allocation.Of(pod)) {
		return given.In(pod)
	}
	return pod
}

// resizable calls each for the running containers whose resources may change.
func resizable(pod *v1.Pod, state *podstate.Pod, each func(*v1.Container, *podstate.Container)) {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; containers.IsSidecar(c) {
			if st := state.Latest(c.Name); st != nil && st.State == podstate.Running {
				each(c, st)
			}
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		if st := state.Latest(c.Name); st != nil && st.State == podstate.Running {
			each(c, st)
		}
	}
}

// changes are the containers, by identifier, whose resources are not yet those
// that the node gives them.
func (k *Kubelet) changes(pod *v1.Pod, state *podstate.Pod) map[string]allocation.Change {
	out := map[string]allocation.Change{}
	resizable(pod, state, func(c *v1.Container, st *podstate.Container) {
		var was *v1.ResourceRequirements
		if actual, ok := k.allocation.Actual(pod.UID, st.ID); ok {
			was = &actual
		}
		if change := allocation.Compare(st.Resources, resources.Linux(pod, c, k.settings), was, &c.Resources); change.Any() {
			out[st.ID] = change
		}
	})
	return out
}

// restarts are the containers that have to be started again for their change.
func restarts(pod *v1.Pod, state *podstate.Pod, changes map[string]allocation.Change) map[string]bool {
	out := map[string]bool{}
	resizable(pod, state, func(c *v1.Container, st *podstate.Container) {
		out[st.ID] = changes[st.ID].Restarts(c)
	})
	return out
}

// resize brings running containers' limits to what the node gives them now, and
// notes what each has.
func (k *Kubelet) resize(ctx context.Context, pod *v1.Pod, state *podstate.Pod) error {
	changes := k.changes(pod, state)
	actual := allocation.Resources{}
	var errs []error
	resizable(pod, state, func(c *v1.Container, st *podstate.Container) {
		change, changed := changes[st.ID]
		if changed && change.Restarts(c) {
			// It is about to end; the one that follows has what it is to have.
			if was, ok := k.allocation.Actual(pod.UID, st.ID); ok {
				actual[st.ID] = was
			}
			return
		}
		if changed {
			want := resources.Linux(pod, c, k.settings)
			if want.CpuQuota == 0 {
				want.CpuQuota = -1
			}
			if want.MemoryLimitInBytes == 0 {
				want.MemoryLimitInBytes = -1
				if k.settings.Swap.WithMemory() {
					want.MemorySwapLimitInBytes = -1
				}
			}
			err := k.fits(ctx, c.Name, st, want.MemoryLimitInBytes)
			if err == nil {
				err = k.manager.UpdateResources(ctx, st.ID, want)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("resize container %s: %w", c.Name, err))
				if was, ok := k.allocation.Actual(pod.UID, st.ID); ok {
					actual[st.ID] = was
				}
				return
			}
		}
		actual[st.ID] = *c.Resources.DeepCopy()
	})
	return errors.Join(append(errs, k.allocation.Set(pod.UID, actual))...)
}

// ensureCgroup makes the pod's cgroup and sets its limits: those of what the pod is
// given, or while its containers have more, of that.
func (k *Kubelet) ensureCgroup(pod *v1.Pod) error {
	if k.cgroups == nil {
		return nil
	}
	if st, ok := k.status.Get(pod.UID); ok {
		pod = counted(pod, &st)
	}
	return k.cgroups.EnsurePod(pod)
}

// counted is a pod with what its containers have by the kubelet's own newest status;
// the one that the pod came with is older, and tells of limits that are gone.
func counted(pod *v1.Pod, st *v1.PodStatus) *v1.Pod {
	out := *pod
	out.Status.InitContainerStatuses, out.Status.ContainerStatuses = st.InitContainerStatuses, st.ContainerStatuses
	out.Status.Resources, out.Status.AllocatedResources = st.Resources, st.AllocatedResources
	return &out
}

// fits says why a running container cannot have a limit of memory yet: it uses
// more, and the kernel would end it.
func (k *Kubelet) fits(ctx context.Context, name string, st *podstate.Container, limit int64) error {
	if has := st.Resources.GetMemoryLimitInBytes(); limit <= 0 || has > 0 && has <= limit {
		return nil
	}
	stats, err := k.cfg.Runtime.ContainerStats(ctx, st.ID)
	if err != nil {
		return fmt.Errorf("how much memory it uses: %w", err)
	}
	if used := stats.GetMemory().GetUsageBytes().GetValue(); used > uint64(limit) {
		return fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)", name, limit, used)
	}
	return nil
}

// inProgress is the condition of a pod whose containers do not have yet what the
// node gives them, nil where they do.
func inProgress(changes map[string]allocation.Change, failed error) *v1.PodCondition {
	if len(changes) == 0 {
		return nil
	}
	c := &v1.PodCondition{Type: v1.PodResizeInProgress, Status: v1.ConditionTrue}
	if failed != nil {
		c.Reason, c.Message = v1.PodReasonError, failed.Error()
	}
	return c
}
