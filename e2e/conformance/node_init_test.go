package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// nodeInitPod is a pod of two init containers, which exit with the codes, and an
// app container.
func nodeInitPod(policy corev1.RestartPolicy, codes [2]string, app ...string) *corev1.Pod {
	p := probePod("pod", app...)
	p.Spec.RestartPolicy = policy
	for i, code := range codes {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{
			Name: fmt.Sprintf("init%d", i+1), Image: "probe", Args: []string{"exit", code},
		})
	}
	return p
}

// nodeWatched makes a pod and checks each state of it that a watch shows, until
// done says that it is enough.
func nodeWatched(s *space, p *corev1.Pod, limit time.Duration, invariant func(*corev1.Pod) error, done func(*corev1.Pod) bool) *corev1.Pod {
	s.t.Helper()
	made := s.pod(p)
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	w, err := s.client.CoreV1().Pods(s.name).Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + p.Name, ResourceVersion: made.ResourceVersion,
	})
	s.must(err)
	defer w.Stop()
	last := made
	for e := range w.ResultChan() {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			s.t.Fatalf("the watch says %v", e)
		}
		if last = pod; invariant(pod) != nil {
			s.t.Fatalf("%v: %+v", invariant(pod), pod.Status)
		}
		if done(pod) {
			return pod
		}
	}
	s.t.Fatalf("pod %s is not done: %+v", p.Name, last.Status)
	return nil
}

// nodeInitInvariant holds at each moment of a pod with init containers.
func nodeInitInvariant(p *corev1.Pod) error {
	if p.Spec.NodeName == "" || len(p.Status.InitContainerStatuses) == 0 {
		return nil
	}
	succeeded := 0
	for _, c := range p.Status.InitContainerStatuses {
		if t := c.State.Terminated; t != nil && t.ExitCode == 0 {
			succeeded++
			if !c.Ready {
				return fmt.Errorf("init container %s succeeded and is not ready", c.Name)
			}
		}
	}
	if len(p.Status.InitContainerStatuses) != len(p.Spec.InitContainers) {
		return fmt.Errorf("%d statuses of init containers, want %d", len(p.Status.InitContainerStatuses), len(p.Spec.InitContainers))
	}
	all := succeeded == len(p.Spec.InitContainers)
	want := corev1.ConditionFalse
	if all {
		want = corev1.ConditionTrue
	}
	for _, c := range p.Status.Conditions {
		if c.Type != corev1.PodInitialized {
			continue
		}
		if c.Status != want || c.LastTransitionTime.IsZero() {
			return fmt.Errorf("condition Initialized is %+v with %d init containers at a good end", c, succeeded)
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		if !all && (c.State.Running != nil || c.State.Terminated != nil || c.RestartCount != 0) {
			return fmt.Errorf("container %s started before the init containers ended: %+v", c.Name, c)
		}
		if !all && (c.State.Waiting == nil || c.State.Waiting.Reason != "PodInitializing") {
			return fmt.Errorf("container %s is not waiting for PodInitializing: %+v", c.Name, c.State)
		}
	}
	return nil
}

func TestNodeInitSucceeds(t *testing.T) {
	tests := map[corev1.RestartPolicy]struct {
		app   []string
		phase corev1.PodPhase
	}{
		// Conformance: [sig-node] InitContainer should invoke init containers on a RestartNever pod
		corev1.RestartPolicyNever: {[]string{"exit", "0"}, corev1.PodSucceeded},
		// Conformance: [sig-node] InitContainer should invoke init containers on a RestartAlways pod
		corev1.RestartPolicyAlways: {[]string{"serve"}, corev1.PodRunning},
	}
	for policy, tt := range tests {
		t.Run(string(policy), func(t *testing.T) {
			s := parallel(t)
			p := nodeWatched(s, nodeInitPod(policy, [2]string{"0", "0"}, tt.app...), 60*time.Second, nodeInitInvariant,
				func(p *corev1.Pod) bool { return p.Status.Phase == tt.phase })
			if nodeCondition(p, corev1.PodInitialized) != corev1.ConditionTrue {
				t.Errorf("condition Initialized is not True: %+v", p.Status.Conditions)
			}
			for _, c := range p.Status.InitContainerStatuses {
				if end := c.State.Terminated; !c.Ready || end == nil || end.ExitCode != 0 || c.RestartCount != 0 {
					t.Errorf("init container %s is %+v", c.Name, c)
				}
			}
		})
	}
}

// Conformance: [sig-node] InitContainer should not start app containers if init containers fail on a RestartAlways pod
func TestNodeInitFailsAgain(t *testing.T) {
	s := parallel(t)
	p := nodeWatched(s, nodeInitPod(corev1.RestartPolicyAlways, [2]string{"1", "0"}, "serve"), 2*time.Minute, nodeInitInvariant, func(p *corev1.Pod) bool {
		c, second := nodeStatus(p, "init1"), nodeStatus(p, "init2")
		if second != nil && (second.State.Waiting == nil || second.State.Waiting.Reason != "PodInitializing") {
			t.Fatalf("the second init container is %+v", second)
		}
		return c != nil && c.RestartCount >= 3
	})
	nodeIncomplete(t, p, corev1.PodPending, "containers with incomplete status: [init1 init2]")
}

// Conformance: [sig-node] InitContainer should not start app containers and fail the pod if init containers fail on a RestartNever pod
func TestNodeInitFailsPod(t *testing.T) {
	s := parallel(t)
	p := nodeWatched(s, nodeInitPod(corev1.RestartPolicyNever, [2]string{"0", "1"}, "serve"), time.Minute, nodeInitInvariant,
		func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
		})
	nodeIncomplete(t, p, corev1.PodFailed, "containers with incomplete status: [init2]")
	if end := nodeStatus(p, "init2").State.Terminated; end == nil || end.ExitCode != 1 {
		t.Errorf("the init container that failed is %+v", nodeStatus(p, "init2"))
	}
}

func nodeIncomplete(t *testing.T, p *corev1.Pod, phase corev1.PodPhase, message string) {
	t.Helper()
	if p.Status.Phase != phase {
		t.Errorf("the phase is %s, want %s", p.Status.Phase, phase)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodInitialized && (c.Status != corev1.ConditionFalse || c.Reason != "ContainersNotInitialized" || c.Message != message) {
			t.Errorf("condition Initialized is %+v, want message %q", c, message)
		}
	}
}

// nodeDebugger is an ephemeral container.
func nodeDebugger(name, text string) corev1.EphemeralContainer {
	return corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: name, Image: "busybox", Command: []string{"/bin/sh", "-c", "while true; do echo " + text + "; sleep 1; done"},
		ImagePullPolicy: corev1.PullIfNotPresent, TerminationMessagePolicy: corev1.TerminationMessageReadFile, Stdin: true, TTY: true,
	}}
}

// Conformance: [sig-node] Ephemeral Containers will start an ephemeral container in an existing pod
// Conformance: [sig-node] Ephemeral Containers should update the ephemeral containers in an existing pod
func TestNodeEphemeralContainers(t *testing.T) {
	s := parallel(t)
	s.ready(probePod("pod", "serve"))
	runs := func(name, text string, all int) {
		t.Helper()
		p := s.podIs("pod", "running "+name, func(p *corev1.Pod) bool {
			c := nodeStatus(p, name)
			return c != nil && c.State.Running != nil
		})
		if n := len(p.Spec.EphemeralContainers); n != all || len(p.Status.EphemeralContainerStatuses) != all {
			t.Errorf("%d ephemeral containers with %d statuses, want %d", n, len(p.Status.EphemeralContainerStatuses), all)
		}
		s.eventually(20*time.Second, "log of "+name, func() error {
			if log := s.logs("pod", name); !strings.Contains(log, text) {
				return fmt.Errorf("it is %q", log)
			}
			return nil
		})
		if out := strings.TrimSpace(s.mustExec("pod", name, "echo", "in", name)); out != "in "+name {
			t.Errorf("exec in %s wrote %q", name, out)
		}
	}
	_, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, "pod", types.StrategicMergePatchType,
		[]byte(`{"spec":{"ephemeralContainers":[{"name":"first","image":"busybox","command":["/bin/sh","-c","while true; do echo polo; sleep 1; done"],"stdin":true,"tty":true}]}}`),
		metav1.PatchOptions{}, "ephemeralcontainers")
	s.must(err)
	runs("first", "polo", 1)
	p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{})
	s.must(err)
	p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, nodeDebugger("second", "marco"))
	out, err := s.client.CoreV1().Pods(s.name).UpdateEphemeralContainers(s.ctx, "pod", p, metav1.UpdateOptions{})
	s.must(err)
	if len(out.Spec.EphemeralContainers) != 2 {
		t.Errorf("the update answered with %d ephemeral containers", len(out.Spec.EphemeralContainers))
	}
	runs("second", "marco", 2)
}
