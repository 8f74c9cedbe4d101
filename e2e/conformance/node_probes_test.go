package conformance

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func nodeProbeHTTP(path string, port int32) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port)}}
}

func nodeProbeExec(command ...string) corev1.ProbeHandler {
	return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}}
}

// nodeProbed is a server with a liveness probe of each second, whose /healthz
// fails from the third second on.
func nodeProbed(h corev1.ProbeHandler, failures int32) *corev1.Pod {
	p := probePod("pod", "serve", "--grpc", ":5000", "--https", ":8443", "--unhealthy-after", "3s")
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: h, PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: failures}
	return p
}

func TestNodeLivenessHolds(t *testing.T) {
	exec := nodeProbeExec("/bin/cat", "/tmp/health")
	tests := map[string]*corev1.Pod{
		// Conformance: [sig-node] Probing container should *not* be restarted with a /healthz http liveness probe
		"http": nodeProbed(nodeProbeHTTP("/", 8080), 3),
		// Conformance: [sig-node] Probing container should *not* be restarted with a tcp:8080 liveness probe
		"tcp": nodeProbed(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, 3),
		// Conformance: [sig-node] Probing container should *not* be restarted with a GRPC liveness probe
		"grpc": nodeProbed(corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 5000, Service: ptr.To("")}}, 3),
		// Conformance: [sig-node] Probing container should *not* be restarted with a exec "cat /tmp/health" liveness probe
		"exec": nodeLivenessShell("echo ok > /tmp/health; sleep 600", exec),
		"https": nodeProbed(corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/", Port: intstr.FromInt32(8443), Scheme: corev1.URISchemeHTTPS}}, 3),
	}
	for name, p := range tests {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.ready(p)
			nodeStays(s, 10*time.Second, func(p *corev1.Pod) error {
				if c := nodeStatus(p, "main"); c == nil || c.RestartCount != 0 || !c.Ready {
					return fmt.Errorf("it was started again: %+v", c)
				}
				return nil
			}, "pod")
		})
	}
}

func nodeLivenessShell(script string, h corev1.ProbeHandler) *corev1.Pod {
	p := shellPod("pod", script)
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: h, InitialDelaySeconds: 1, PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 1}
	return p
}

func TestNodeLivenessFails(t *testing.T) {
	tests := map[string]struct {
		pod  *corev1.Pod
		text string
	}{
		// Conformance: [sig-node] Probing container should be restarted with a /healthz http liveness probe
		"http": {nodeProbed(nodeProbeHTTP("/healthz", 8080), 3), "Liveness probe failed: HTTP probe failed with statuscode: 503"},
		// Conformance: [sig-node] Probing container should be restarted with a GRPC liveness probe
		"grpc": {nodeProbed(corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 2333}}, 1), "Liveness probe failed: "},
		// Conformance: [sig-node] Probing container should be restarted with a exec "cat /tmp/health" liveness probe
		"exec": {nodeLivenessShell("echo ok > /tmp/health; sleep 3; rm /tmp/health; sleep 600", nodeProbeExec("/bin/cat", "/tmp/health")),
			"Liveness probe failed: cat: can't open '/tmp/health': No such file or directory\n"},
		"tcp": {nodeProbed(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(2333)}}, 1), "Liveness probe failed: dial tcp "},
		"slow exec": {nodeLivenessShell("sleep 600", nodeProbeExec("/bin/sleep", "30")),
			"Liveness probe failed: command timed out: \"/bin/sleep 30\" timed out after 1s"},
	}
	tests["slow exec"].pod.Spec.Containers[0].LivenessProbe.TimeoutSeconds = 1
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.pod(tt.pod)
			p := s.podIs("pod", "started again", func(p *corev1.Pod) bool {
				c := nodeStatus(p, "main")
				// It may have been ended again by the time that this looks.
				return c != nil && c.RestartCount >= 1
			})
			if c := nodeStatus(p, "main"); c.LastTerminationState.Terminated == nil {
				t.Errorf("there is no last state: %+v", c)
			}
			nodeHasEvent(s, "pod", "Unhealthy", tt.text)
			nodeHasEvent(s, "pod", "Killing", "Container main failed liveness probe, will be restarted")
		})
	}
}

// Conformance: [sig-node] Probing container should have monotonically increasing restart count
func TestNodeLivenessCounts(t *testing.T) {
	s := parallel(t)
	s.pod(nodeProbed(nodeProbeHTTP("/healthz", 2333), 1))
	last := int32(0)
	s.eventually(4*time.Minute, "five restarts", func() error {
		p := s.podIs("pod", "reporting", func(p *corev1.Pod) bool { return nodeStatus(p, "main") != nil })
		count := nodeStatus(p, "main").RestartCount
		if count < last {
			t.Fatalf("the count went from %d back to %d", last, count)
		}
		if last = count; count < 5 {
			return fmt.Errorf("%d", count)
		}
		return nil
	})
}

// Conformance: [sig-node] Probing container with readiness probe should not be ready before initial delay and never restart
func TestNodeReadinessDelay(t *testing.T) {
	s := parallel(t)
	p := probePod("pod", "serve")
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: nodeProbeHTTP("/", 8080), InitialDelaySeconds: 8, PeriodSeconds: 1}
	got := s.ready(p)
	c := nodeStatus(got, "main")
	if c.RestartCount != 0 {
		t.Errorf("the container was started again: %+v", c)
	}
	for _, cond := range got.Status.Conditions {
		if cond.Type != corev1.PodReady {
			continue
		}
		if d := cond.LastTransitionTime.Sub(c.State.Running.StartedAt.Time); d < 7*time.Second {
			t.Errorf("Ready %v after its start, want 8 s", d)
		}
	}
}

// Conformance: [sig-node] Probing container with readiness probe that fails should never be ready and never restart
func TestNodeReadinessNever(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "sleep 600")
	p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: nodeProbeExec("/bin/false"), PeriodSeconds: 1}
	s.pod(p)
	s.podIs("pod", "running", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	nodeStays(s, 10*time.Second, func(p *corev1.Pod) error {
		c := nodeStatus(p, "main")
		if c.RestartCount != 0 || c.Ready || nodeCondition(p, corev1.PodReady) != corev1.ConditionFalse || nodeCondition(p, corev1.ContainersReady) != corev1.ConditionFalse {
			return fmt.Errorf("it is %+v", p.Status)
		}
		return nil
	}, "pod")
}

// A startup probe keeps the others away until it succeeded once, and its
// failure starts the container again.
func TestNodeStartupProbe(t *testing.T) {
	t.Run("shields", func(t *testing.T) {
		s := parallel(t)
		p := shellPod("pod", "sleep 4; echo ok > /tmp/started; sleep 600")
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		c := &p.Spec.Containers[0]
		c.StartupProbe = &corev1.Probe{ProbeHandler: nodeProbeExec("cat", "/tmp/started"), PeriodSeconds: 1, FailureThreshold: 60}
		c.LivenessProbe = &corev1.Probe{ProbeHandler: nodeProbeExec("cat", "/tmp/started"), PeriodSeconds: 1, FailureThreshold: 1}
		s.pod(p)
		early := s.podIs("pod", "running", func(p *corev1.Pod) bool { c := nodeStatus(p, "main"); return c != nil && c.State.Running != nil })
		if c := nodeStatus(early, "main"); c.Started == nil || *c.Started || c.Ready {
			t.Errorf("the container is started and ready too early: %+v", c)
		}
		late := s.podIs("pod", "Ready", func(p *corev1.Pod) bool { return nodeCondition(p, corev1.PodReady) == corev1.ConditionTrue })
		if c := nodeStatus(late, "main"); c.RestartCount != 0 || c.Started == nil || !*c.Started {
			t.Errorf("the container is %+v", c)
		}
	})
	t.Run("fails", func(t *testing.T) {
		s := parallel(t)
		p := shellPod("pod", "sleep 600")
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](60)
		p.Spec.Containers[0].StartupProbe = &corev1.Probe{ProbeHandler: nodeProbeExec("false"), PeriodSeconds: 1, FailureThreshold: 2, TerminationGracePeriodSeconds: ptr.To[int64](1)}
		s.pod(p)
		s.podIs("pod", "started again", func(p *corev1.Pod) bool { c := nodeStatus(p, "main"); return c != nil && c.RestartCount == 1 })
		nodeHasEvent(s, "pod", "Killing", "Container main failed startup probe, will be restarted")
	})
}
