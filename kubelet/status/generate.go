// Package status turns what the runtime and the probes say about a pod into
// the pod's API status, and keeps the API server's copy equal to it.
package status

import (
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/kubelet/containers"
	"skiff/kubelet/podstate"
	"skiff/kubelet/resources"
)

// Probes says what a running container's probes found.
type Probes interface {
	// Started and Ready answer for the container with the identifier.
	Started(pod *v1.Pod, c *v1.Container, containerID string) bool
	Ready(pod *v1.Pod, c *v1.Container, containerID string) bool
}

// Input is everything a status follows from.
type Input struct {
	Pod    *v1.Pod
	State  *podstate.Pod
	Old    v1.PodStatus
	Probes Probes
	// Reason returns why a container waits.
	Reason func(container string) (containers.Reason, bool)
	// Resources tells how the devices of a container are.
	Resources func(container string) []v1.ResourceStatus
	// HostIPs are the node's addresses.
	HostIPs []string
	// Message reads a dead container's last words.
	Message func(c *podstate.Container) string
	// Resize are the conditions of a change of the pod's resources.
	Resize []v1.PodCondition
	// Terminal says that the pod will not run any more.
	Terminal bool
	// Failure, when set, is why the pod as a whole failed.
	Failure *Failure
	// Runtime names the runtime in container identifiers.
	Runtime string
	Now     metav1.Time
}

// Failure is why the kubelet ended or refused a pod.
type Failure struct {
	Reason, Message string
	// Condition is added to the pod's conditions, such as DisruptionTarget.
	Condition *v1.PodCondition
}

// Generate computes the status.
func Generate(in Input) v1.PodStatus {
	pod := in.Pod
	out := v1.PodStatus{
		ObservedGeneration: pod.Generation,
		QOSClass:           resources.QOS(pod),
		StartTime:          in.Old.StartTime,
		NominatedNodeName:  in.Old.NominatedNodeName,
		Resize:             in.Old.Resize,
	}
	if out.StartTime == nil {
		out.StartTime = &in.Now
	}
	addresses(&out, in)
	out.InitContainerStatuses = containerStatuses(in, pod.Spec.InitContainers, in.Old.InitContainerStatuses, true)
	out.ContainerStatuses = containerStatuses(in, pod.Spec.Containers, in.Old.ContainerStatuses, false)
	var ephemeral []v1.Container
	for i := range pod.Spec.EphemeralContainers {
		ephemeral = append(ephemeral, v1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	out.EphemeralContainerStatuses = containerStatuses(in, ephemeral, in.Old.EphemeralContainerStatuses, false)
	if in.Terminal && (len(pod.Spec.InitContainers) == 0 || begun(&out)) {
		neverSeen(out.ContainerStatuses)
	}
	out.Phase = phase(pod, &out, in.Terminal)
	if old := in.Old.Phase; old == v1.PodFailed || old == v1.PodSucceeded {
		out.Phase, out.Reason, out.Message = old, in.Old.Reason, in.Old.Message
	}
	if in.Failure != nil {
		out.Phase, out.Reason, out.Message = v1.PodFailed, in.Failure.Reason, in.Failure.Message
	}
	if out.Phase == v1.PodFailed && len(in.Old.ContainerStatuses) == 0 && !ran(&out) {
		// A pod that the node refused has no containers to tell of; a waiting one
		// would hide the reason in kubectl's list.
		out.InitContainerStatuses, out.ContainerStatuses, out.EphemeralContainerStatuses = nil, nil, nil
	}
	if r := pod.Spec.Resources; r != nil {
		// The pod's cgroup has them since before its sandbox was made.
		out.AllocatedResources, out.Resources = r.Requests.DeepCopy(), r.DeepCopy()
	}
	out.Conditions = conditions(in, &out)
	return out
}

// ran tells whether the node has or had any container of the pod.
func ran(s *v1.PodStatus) bool {
	known := func(c v1.ContainerStatus) bool { return c.ContainerID != "" }
	return slices.ContainsFunc(s.InitContainerStatuses, known) || slices.ContainsFunc(s.ContainerStatuses, known)
}

func addresses(out *v1.PodStatus, in Input) {
	for _, ip := range in.HostIPs {
		out.HostIPs = append(out.HostIPs, v1.HostIP{IP: ip})
	}
	if len(in.HostIPs) > 0 {
		out.HostIP = in.HostIPs[0]
	}
	var ips []string
	switch {
	case in.Pod.Spec.HostNetwork:
		if len(in.State.Sandboxes) > 0 || len(in.Old.PodIPs) > 0 {
			ips = in.HostIPs
		}
	case in.State.ReadySandbox() != nil:
		ips = in.State.ReadySandbox().IPs
	default:
		for _, ip := range in.Old.PodIPs {
			ips = append(ips, ip.IP)
		}
	}
	for _, ip := range ips {
		out.PodIPs = append(out.PodIPs, v1.PodIP{IP: ip})
	}
	if len(ips) > 0 {
		out.PodIP = ips[0]
	}
}

// counts of the containers' states that decide the phase.
type counts struct{ unknown, running, waiting, stopped, succeeded int }

func (n *counts) add(st *v1.ContainerStatus) {
	switch {
	case st == nil:
		n.unknown++
	case st.State.Running != nil:
		n.running++
	case st.State.Terminated != nil:
		n.stopped++
		if st.State.Terminated.ExitCode == 0 {
			n.succeeded++
		}
	case st.State.Waiting != nil:
		if st.LastTerminationState.Terminated != nil {
			n.stopped++
		} else {
			n.waiting++
		}
	default:
		n.unknown++
	}
}

// phase sums up the containers.
func phase(pod *v1.Pod, status *v1.PodStatus, terminal bool) v1.PodPhase {
	var n counts
	for i := range pod.Spec.Containers {
		n.add(find(status.ContainerStatuses, pod.Spec.Containers[i].Name))
	}
	pending, failed := 0, 0
	for i := range pod.Spec.InitContainers {
		spec := &pod.Spec.InitContainers[i]
		st := find(status.InitContainerStatuses, spec.Name)
		switch {
		case containers.IsSidecar(spec):
			if st == nil || st.State.Waiting != nil && st.LastTerminationState.Terminated == nil || st.State.Running != nil && (st.Started == nil || !*st.Started) {
				pending++
			}
		case st == nil, st.State.Running != nil:
			pending++
		case st.State.Terminated != nil:
			if st.State.Terminated.ExitCode != 0 {
				failed++
			}
		case st.State.Waiting != nil:
			if t := st.LastTerminationState.Terminated; t == nil || t.ExitCode != 0 {
				pending++
			}
		default:
			pending++
		}
	}
	// Once a main container ran, initialisation was over.
	mainRan := n.running+n.stopped > 0
	if failed > 0 && pod.Spec.RestartPolicy == v1.RestartPolicyNever && !mainRan {
		return v1.PodFailed
	}
	if !terminal && !mainRan && (pending > 0 || failed > 0) {
		return v1.PodPending
	}
	if terminal && n.running == 0 && (n.stopped > 0 || n.waiting > 0) {
		if n.stopped > 0 && n.stopped == n.succeeded && n.waiting == 0 {
			return v1.PodSucceeded
		}
		return v1.PodFailed
	}
	switch {
	case n.waiting > 0:
		return v1.PodPending
	case n.running > 0 && n.unknown == 0:
		return v1.PodRunning
	case n.running == 0 && n.stopped > 0 && n.unknown == 0:
		return stoppedPhase(pod, status, n)
	}
	return v1.PodPending
}

func stoppedPhase(pod *v1.Pod, status *v1.PodStatus, n counts) v1.PodPhase {
	for i := range pod.Spec.Containers {
		spec := &pod.Spec.Containers[i]
		st := find(status.ContainerStatuses, spec.Name)
		if st.State.Waiting != nil || st.State.Terminated != nil && mayRestart(pod, spec, st.State.Terminated, false) && pod.DeletionTimestamp == nil {
			return v1.PodRunning
		}
	}
	if n.stopped == n.succeeded {
		return v1.PodSucceeded
	}
	return v1.PodFailed
}

// conditions computes the kubelet's conditions and keeps those of others.
func conditions(in Input, status *v1.PodStatus) []v1.PodCondition {
	var out []v1.PodCondition
	put := func(kind v1.PodConditionType, ok bool, reason, message string) {
		c := v1.PodCondition{Type: kind, Status: v1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: in.Pod.Generation, LastTransitionTime: in.Now}
		if ok {
			c.Status = v1.ConditionTrue
		}
		if old := condition(in.Old.Conditions, kind); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		out = append(out, c)
	}
	sandbox := in.State.ReadySandbox()
	put(v1.PodReadyToStartContainers, sandbox != nil && (in.Pod.Spec.HostNetwork || len(sandbox.IPs) > 0), "", "")
	reason, message := initialized(in.Pod, status)
	put(v1.PodInitialized, reason == "" || reason == "PodCompleted", reason, message)
	reason, message = containersReady(in.Pod, status)
	containersOK := reason == ""
	containersReason, containersMessage := reason, message
	if containersOK {
		for _, gate := range in.Pod.Spec.ReadinessGates {
			c := condition(in.Old.Conditions, gate.ConditionType)
			text := ""
			if c == nil {
				text = fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(gate.ConditionType))
			} else if c.Status != v1.ConditionTrue {
				text = fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(gate.ConditionType), c.Status)
			}
			if text != "" {
				if message != "" {
					message += ", "
				}
				reason, message = "ReadinessGatesNotReady", message+text
			}
		}
	}
	put(v1.PodReady, reason == "", reason, message)
	put(v1.ContainersReady, containersOK, containersReason, containersMessage)
	if old := condition(in.Old.Conditions, v1.PodScheduled); old != nil {
		out = append(out, *old)
		out[len(out)-1].ObservedGeneration = in.Pod.Generation
	} else {
		put(v1.PodScheduled, true, "", "")
	}
	if in.Failure != nil && in.Failure.Condition != nil {
		c := *in.Failure.Condition
		c.LastTransitionTime, c.ObservedGeneration = in.Now, in.Pod.Generation
		if old := condition(in.Old.Conditions, c.Type); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		out = append(out, c)
	}
	for _, c := range in.Resize {
		c.LastTransitionTime, c.ObservedGeneration = in.Now, in.Pod.Generation
		if old := condition(in.Old.Conditions, c.Type); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		out = append(out, c)
	}
	for _, c := range in.Old.Conditions {
		over := c.Type == v1.PodResizePending || c.Type == v1.PodResizeInProgress
		if condition(out, c.Type) == nil && !over {
			out = append(out, c)
		}
	}
	return out
}

func condition(list []v1.PodCondition, kind v1.PodConditionType) *v1.PodCondition {
	i := slices.IndexFunc(list, func(c v1.PodCondition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &list[i]
}

func initialized(pod *v1.Pod, status *v1.PodStatus) (reason, message string) {
	if status.Phase == v1.PodSucceeded {
		return "PodCompleted", ""
	}
	var incomplete []string
	begun := false
	for i := range status.ContainerStatuses {
		st := &status.ContainerStatuses[i]
		begun = begun || st.State.Running != nil || st.State.Terminated != nil || st.LastTerminationState.Terminated != nil
	}
	for i := range pod.Spec.InitContainers {
		spec := &pod.Spec.InitContainers[i]
		st := find(status.InitContainerStatuses, spec.Name)
		done := st != nil && st.Ready
		if containers.IsSidecar(spec) {
			done = st != nil && st.Started != nil && *st.Started
		}
		if !done && !begun {
			incomplete = append(incomplete, spec.Name)
		}
	}
	if len(incomplete) > 0 {
		return "ContainersNotInitialized", fmt.Sprintf("containers with incomplete status: %s", incomplete)
	}
	return "", ""
}

func containersReady(pod *v1.Pod, status *v1.PodStatus) (reason, message string) {
	switch status.Phase {
	case v1.PodSucceeded:
		return "PodCompleted", ""
	case v1.PodFailed:
		return "PodFailed", ""
	}
	var unready, unknown []string
	note := func(list []v1.ContainerStatus, name string) {
		st := find(list, name)
		switch {
		case st == nil:
			unknown = append(unknown, name)
		case !st.Ready:
			unready = append(unready, name)
		}
	}
	for i := range pod.Spec.InitContainers {
		if containers.IsSidecar(&pod.Spec.InitContainers[i]) {
			note(status.InitContainerStatuses, pod.Spec.InitContainers[i].Name)
		}
	}
	for i := range pod.Spec.Containers {
		note(status.ContainerStatuses, pod.Spec.Containers[i].Name)
	}
	if len(unknown) > 0 {
		message = fmt.Sprintf("containers with unknown status: %s", unknown)
	}
	if len(unready) > 0 {
		if message != "" {
			message += ", "
		}
		message += fmt.Sprintf("containers with unready status: %s", unready)
	}
	if message != "" {
		return "ContainersNotReady", message
	}
	return "", ""
}

// Deadline is when the pod's activeDeadlineSeconds end; false means never.
func Deadline(pod *v1.Pod, start *metav1.Time) (time.Time, bool) {
	if pod.Spec.ActiveDeadlineSeconds == nil || start == nil {
		return time.Time{}, false
	}
	return start.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second), true
}
