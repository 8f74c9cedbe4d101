package conformance

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// The image's entry point is /probe and its command serve.
func TestNodeCommand(t *testing.T) {
	tests := map[string]struct {
		command, args []string
		want          string
	}{
		// Conformance: [sig-node] Containers should use the image defaults if command and args are blank
		"defaults": {want: "/probe serve"},
		// Conformance: [sig-node] Containers should be able to override the image's default arguments (container cmd)
		"args": {args: []string{"sleep", "1h"}, want: "/probe sleep 1h"},
		// Conformance: [sig-node] Containers should be able to override the image's default command (container entrypoint)
		"command": {command: []string{"//probe"}, want: "//probe"},
		// Conformance: [sig-node] Containers should be able to override the image's default command and arguments
		"both": {command: []string{"/./probe", "sleep"}, args: []string{"2h"}, want: "/./probe sleep 2h"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := probePod("pod", tt.args...)
			p.Spec.Containers[0].Command = tt.command
			s.ready(p)
			out := s.mustExec("pod", "main", "/probe", "cat", "/proc/1/cmdline")
			if got := strings.TrimSpace(strings.ReplaceAll(out, "\x00", " ")); got != tt.want {
				t.Errorf("the process is %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNodeTerminationMessage(t *testing.T) {
	tests := map[string]struct {
		script string
		change func(*corev1.Container)
		phase  corev1.PodPhase
		want   string
	}{
		// Conformance: [sig-node] Container Runtime blackbox test on terminated container should report termination message as empty when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set
		"log of success": {
			script: "echo -n DONE",
			change: func(c *corev1.Container) {
				c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
			},
			phase: corev1.PodSucceeded,
		},
		// Conformance: [sig-node] Container Runtime blackbox test on terminated container should report termination message from file when pod succeeds and TerminationMessagePolicy FallbackToLogsOnError is set
		"file of success": {
			script: "echo -n OK > /dev/termination-log; echo log",
			change: func(c *corev1.Container) {
				c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
			},
			phase: corev1.PodSucceeded, want: "OK",
		},
		// Conformance: [sig-node] Container Runtime blackbox test on terminated container should report termination message from log output if TerminationMessagePolicy FallbackToLogsOnError is set
		"log of failure": {
			script: "echo -n DONE; false",
			change: func(c *corev1.Container) {
				c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
			},
			phase: corev1.PodFailed, want: "DONE",
		},
		// Conformance: [sig-node] Container Runtime blackbox test on terminated container should report termination message if TerminationMessagePath is set as non-root user and at a non-default path
		"other path and user": {
			script: "echo -n DONE > /dev/termination-custom-log",
			change: func(c *corev1.Container) {
				c.TerminationMessagePath = "/dev/termination-custom-log"
				c.SecurityContext = &corev1.SecurityContext{RunAsUser: ptr.To[int64](10000)}
			},
			phase: corev1.PodSucceeded, want: "DONE",
		},
		"no file after failure":       {script: "echo -n DONE; false", phase: corev1.PodFailed},
		"long file":                   {script: "yes | head -c 10000 > /dev/termination-log", phase: corev1.PodSucceeded, want: strings.Repeat("y\n", 2048)},
		"path below folders of image": {script: "echo -n DEEP > /a/b/message", change: func(c *corev1.Container) { c.TerminationMessagePath = "/a/b/message" }, phase: corev1.PodSucceeded, want: "DEEP"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := shellPod("pod", tt.script)
			if tt.change != nil {
				tt.change(&p.Spec.Containers[0])
			}
			end := nodeStatus(nodeEnds(s, p, tt.phase), "main").State.Terminated
			if end == nil || end.Message != tt.want {
				t.Errorf("the container ended with %+v, want message %q", end, tt.want)
			}
		})
	}
}

// The container fails at first, ends well the second time and then stays.
//
// Conformance: [sig-node] Container Runtime blackbox test when starting a container that exits should run with the expected status
func TestNodeRestartPolicies(t *testing.T) {
	script := `echo x >> /counts/n
case $(wc -l < /counts/n) in 1) exit 1;; 2) exit 0;; *) sleep 3600;; esac`
	tests := map[corev1.RestartPolicy]struct {
		phase    corev1.PodPhase
		restarts int32
		running  bool
	}{
		corev1.RestartPolicyAlways:    {phase: corev1.PodRunning, restarts: 2, running: true},
		corev1.RestartPolicyOnFailure: {phase: corev1.PodSucceeded, restarts: 1},
		corev1.RestartPolicyNever:     {phase: corev1.PodFailed},
	}
	for policy, tt := range tests {
		t.Run(string(policy), func(t *testing.T) {
			s := parallel(t)
			p := shellPod("pod", script)
			p.Spec.RestartPolicy = policy
			p.Spec.Volumes = []corev1.Volume{{Name: "counts", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "counts", MountPath: "/counts"}}
			s.pod(p)
			got := s.podIs("pod", "in phase "+string(tt.phase)+" after its restarts", func(p *corev1.Pod) bool {
				c := nodeStatus(p, "main")
				return c != nil && p.Status.Phase == tt.phase && c.RestartCount == tt.restarts && (c.State.Running != nil) == tt.running && c.Ready == tt.running
			})
			if ready := nodeCondition(got, corev1.PodReady) == corev1.ConditionTrue; ready != tt.running {
				t.Errorf("the pod's conditions are %+v", got.Status.Conditions)
			}
		})
	}
}
