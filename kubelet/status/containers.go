package status

import (
	"path"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/containers"
	"skiff/kubelet/podstate"
	"skiff/kubelet/stopsignal"
)

func containerStatuses(in Input, specs []v1.Container, old []v1.ContainerStatus, isInit bool) []v1.ContainerStatus {
	if len(specs) == 0 {
		return nil
	}
	out := make([]v1.ContainerStatus, 0, len(specs))
	for i := range specs {
		var before *v1.ContainerStatus
		for j := range old {
			if old[j].Name == specs[i].Name {
				before = &old[j]
			}
		}
		out = append(out, containerStatus(in, &specs[i], before, isInit))
	}
	return out
}

func containerStatus(in Input, spec *v1.Container, old *v1.ContainerStatus, isInit bool) v1.ContainerStatus {
	pod := in.Pod
	waiting := "ContainerCreating"
	if len(pod.Spec.InitContainers) > 0 {
		waiting = "PodInitializing"
	}
	out := v1.ContainerStatus{Name: spec.Name, Image: spec.Image, State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: waiting}}}
	instances := in.State.Instances(spec.Name)
	if len(instances) == 0 {
		vanished(in, &out, old, isInit)
	} else {
		latest := instances[0]
		fill(in, &out, spec, latest)
		for _, before := range instances[1:] {
			if before.State == podstate.Exited {
				out.LastTerminationState.Terminated = terminated(in, before)
				break
			}
		}
		if out.LastTerminationState.Terminated == nil && old != nil && old.ContainerID != "" && old.ContainerID == out.ContainerID {
			out.LastTerminationState = old.LastTerminationState
		}
	}
	exited := out.State.Terminated
	if reason, ok := in.Reason(spec.Name); ok && !in.Terminal && (exited == nil && out.State.Waiting != nil || exited != nil && mayRestart(pod, spec, exited, isInit)) {
		if exited != nil {
			out.LastTerminationState.Terminated = exited
		}
		out.State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason.Reason, Message: reason.Message}}
	}
	started := false
	if out.State.Running != nil && len(instances) > 0 {
		started = in.Probes.Started(pod, spec, instances[0].ID)
		out.Ready = started && in.Probes.Ready(pod, spec, instances[0].ID)
	}
	out.Started = &started
	if isInit && !containers.IsSidecar(spec) {
		out.Ready = out.State.Terminated != nil && out.State.Terminated.ExitCode == 0
	}
	if out.AllocatedResourcesStatus = in.Resources(spec.Name); out.AllocatedResourcesStatus == nil && exited != nil && old != nil {
		// Its devices were given back.
		out.AllocatedResourcesStatus = old.AllocatedResourcesStatus
	}
	var mounted []*runtimeapi.Mount
	if len(instances) > 0 {
		mounted = instances[0].Mounts
	}
	for _, m := range spec.VolumeMounts {
		out.VolumeMounts = append(out.VolumeMounts, volumeMount(m, mounted))
	}
	return out
}

// volumeMount reports a mount as the runtime has made it.
func volumeMount(m v1.VolumeMount, mounted []*runtimeapi.Mount) v1.VolumeMountStatus {
	out := v1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
	var made *runtimeapi.Mount
	for _, have := range mounted {
		if path.Clean("/"+have.ContainerPath) == path.Clean("/"+m.MountPath) {
			made = have
		}
	}
	if m.ReadOnly {
		// What is asked for where possible is told as what came of it.
		mode := v1.RecursiveReadOnlyDisabled
		if made.GetRecursiveReadOnly() || m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == v1.RecursiveReadOnlyEnabled {
			mode = v1.RecursiveReadOnlyEnabled
		}
		out.RecursiveReadOnly = &mode
	}
	if ref := made.GetImage().GetImage(); ref != "" {
		out.VolumeStatus = &v1.VolumeStatus{Image: &v1.ImageVolumeStatus{ImageRef: ref}}
	}
	return out
}

// mayRestart reports whether an ended container is to run again.
func mayRestart(pod *v1.Pod, spec *v1.Container, t *v1.ContainerStateTerminated, isInit bool) bool {
	if isInit && !containers.IsSidecar(spec) && t.ExitCode == 0 {
		return false
	}
	st := &podstate.Container{State: podstate.Exited, ExitCode: t.ExitCode}
	if isInit && !containers.IsSidecar(spec) {
		return pod.Spec.RestartPolicy != v1.RestartPolicyNever || containers.ShouldRestart(pod, spec, st)
	}
	return containers.ShouldRestart(pod, spec, st)
}

// vanished reports a container that the runtime does not have.
func vanished(in Input, out, old *v1.ContainerStatus, isInit bool) {
	if old == nil {
		return
	}
	out.RestartCount = old.RestartCount
	out.LastTerminationState = old.LastTerminationState
	switch {
	case old.State.Terminated != nil:
		// It ended and its remains were cleaned away.
		out.State, out.ContainerID, out.ImageID, out.Image = old.State, old.ContainerID, old.ImageID, old.Image
		if isInit && old.State.Terminated.ExitCode == 0 {
			out.Ready = true
		}
	case old.State.Running != nil:
		gone := &v1.ContainerStateTerminated{
			Reason: "ContainerStatusUnknown", ExitCode: 137, ContainerID: old.ContainerID,
			Message: "The container could not be located when the pod was terminated",
		}
		if in.Terminal {
			out.State = v1.ContainerState{Terminated: gone}
			return
		}
		gone.Message = "The container could not be located when the pod was deleted.  The container used to be Running"
		if in.Pod.DeletionTimestamp == nil {
			out.RestartCount++
		}
		out.LastTerminationState.Terminated = gone
	}
}

// begun tells whether init containers have done their work.
func begun(s *v1.PodStatus) bool {
	waits := func(c v1.ContainerStatus) bool {
		return c.State.Waiting != nil && c.LastTerminationState.Terminated == nil
	}
	if slices.ContainsFunc(s.ContainerStatuses, func(c v1.ContainerStatus) bool { return !waits(c) }) {
		return true
	}
	last := s.InitContainerStatuses[len(s.InitContainerStatuses)-1].State.Terminated
	return last != nil && last.ExitCode == 0
}

// neverSeen ends the containers of a pod that is over: what did not start will
// not, and a waiting one would tell otherwise.
func neverSeen(list []v1.ContainerStatus) {
	for i := range list {
		if list[i].State.Waiting != nil {
			list[i].State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
				Reason: "ContainerStatusUnknown", ExitCode: 137,
				Message: "The container could not be located when the pod was terminated",
			}}
		}
	}
}

func fill(in Input, out *v1.ContainerStatus, spec *v1.Container, c *podstate.Container) {
	out.RestartCount = int32(c.RestartCount)
	out.ContainerID = in.Runtime + "://" + c.ID
	if c.Image != "" {
		out.Image = c.Image
	}
	out.ImageID = c.ImageRef
	if out.ImageID == "" {
		out.ImageID = c.ImageID
	}
	switch c.State {
	case podstate.Running:
		out.State = v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: metav1.NewTime(c.StartedAt)}}
	case podstate.Exited:
		out.State = v1.ContainerState{Terminated: terminated(in, c)}
	case podstate.Unknown:
		out.State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{}}
	}
	if name := v1.Signal(stopsignal.FromCRI(c.StopSignal)); name != "" {
		out.StopSignal = &name
	}
	if c.State == podstate.Running {
		out.AllocatedResources = spec.Resources.Requests.DeepCopy()
		out.Resources = actual(spec, c)
	}
	if c.User != nil && c.State == podstate.Running {
		out.User = &v1.ContainerUser{Linux: &v1.LinuxContainerUser{UID: c.User.Uid, GID: c.User.Gid, SupplementalGroups: c.User.SupplementalGroups}}
	}
}

func terminated(in Input, c *podstate.Container) *v1.ContainerStateTerminated {
	out := &v1.ContainerStateTerminated{
		ExitCode: c.ExitCode, Reason: c.Reason, Message: c.Message,
		StartedAt: metav1.NewTime(c.StartedAt), FinishedAt: metav1.NewTime(c.FinishedAt),
		ContainerID: in.Runtime + "://" + c.ID,
	}
	if out.Reason == "" {
		out.Reason = "Completed"
		if c.ExitCode != 0 {
			out.Reason = "Error"
		}
	}
	if in.Message != nil {
		if text := in.Message(c); text != "" {
			if out.Message != "" {
				out.Message += ": "
			}
			out.Message += text
		}
	}
	return out
}

func find(list []v1.ContainerStatus, name string) *v1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}
