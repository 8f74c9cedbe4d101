package conformance

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// Pods with users of their own: root inside is nobody on the node, no two pods
// of a node have the same users, and files of volumes belong to those inside.
//
// Covers: node.containers
func TestNodeUserNamespaces(t *testing.T) {
	s := parallel(t)
	var maps []string
	node := ""
	for _, name := range []string{"one", "two"} {
		p := shellPod(name, "sleep 600")
		p.Spec.NodeName = node
		p.Spec.HostUsers = ptr.To(false)
		p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](3000)}
		p.Spec.Volumes = []corev1.Volume{
			{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "api", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
				DefaultMode: ptr.To[int32](0o400),
				Items:       []corev1.DownwardAPIVolumeFile{{Path: "name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			}}},
		}
		c := &p.Spec.Containers[0]
		c.VolumeMounts = []corev1.VolumeMount{{Name: "empty", MountPath: "/empty"}, {Name: "api", MountPath: "/api"}}
		c.TerminationMessagePath = "/last-words"
		// The whole of /proc may be shown to users who are nobody on the node.
		c.SecurityContext = &corev1.SecurityContext{ProcMount: ptr.To(corev1.UnmaskedProcMount)}
		node = s.ready(p).Spec.NodeName
		users := strings.Fields(s.mustExec(name, "main", "cat", "/proc/self/uid_map"))
		if len(users) != 3 || users[0] != "0" || users[1] == "0" || users[2] != "65536" {
			t.Errorf("the users of pod %s are %v", name, users)
		}
		maps = append(maps, users[1])
		if out := s.mustExec(name, "main", "sh", "-c", "touch /empty/f /etc/f && echo x > /last-words && stat -c %u:%g /empty/f /api/..data/name && cat /api/name"); out != "0:3000\n0:3000\n"+name {
			t.Errorf("files in pod %s: %q", name, out)
		}
		if out, err := s.exec(name, "main", "sh", "-c", "echo 1 > /proc/sys/kernel/panic"); err == nil {
			t.Errorf("pod %s sets the node's kernel: %q", name, out)
		}
	}
	if maps[0] == maps[1] {
		t.Errorf("both pods have the users from %s on", maps[0])
	}
	nodeRemove(s, "one")
}

func TestNodeStopSignal(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "trap 'exit 3' USR1; trap 'exit 4' TERM; touch /ready; while true; do sleep 0.1; done")
	p.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](60)
	c := &p.Spec.Containers[0]
	c.Lifecycle = &corev1.Lifecycle{StopSignal: ptr.To(corev1.SIGUSR1)}
	c.LivenessProbe = &corev1.Probe{ProbeHandler: nodeProbeExec("test", "!", "-e", "/ready"), PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 10}
	s.pod(p)
	got := s.podIs("pod", "started again", func(p *corev1.Pod) bool { c := nodeStatus(p, "main"); return c != nil && c.RestartCount > 0 })
	status := nodeStatus(got, "main")
	if end := status.LastTerminationState.Terminated; end == nil || end.ExitCode != 3 {
		t.Errorf("the container ended with %+v, want the code of SIGUSR1", end)
	}
	if status.StopSignal == nil || *status.StopSignal != corev1.SIGUSR1 {
		t.Errorf("status.stopSignal is %v", status.StopSignal)
	}
}

func TestNodeRunAsNonRoot(t *testing.T) {
	s := parallel(t)
	p := probePod("pod", "serve")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}
	s.pod(p)
	if why := nodeNotCreated(s); !strings.HasPrefix(why, "container has runAsNonRoot and image will run as root") {
		t.Errorf("the container waits for %q", why)
	}
}

// A probe's own grace period is the container's when that probe fails.
//
// Covers: node.probes
func TestNodeProbeGrace(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "trap '' TERM; while true; do sleep 1; done")
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](600)
	p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: nodeProbeExec("false"), PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 10, TerminationGracePeriodSeconds: ptr.To[int64](2)}
	s.pod(p)
	got := s.podIs("pod", "started again", func(p *corev1.Pod) bool { c := nodeStatus(p, "main"); return c != nil && c.RestartCount > 0 })
	if end := nodeStatus(got, "main").LastTerminationState.Terminated; end == nil || end.ExitCode != 137 {
		t.Errorf("the container ended with %+v, want to be killed", end)
	}
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, "pod", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}))
}

// Restart rules start a container again that its policy would not.
//
// Covers: node.lifecycle
func TestNodeRestartRules(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "echo x >> /counts/n; [ $(wc -l < /counts/n) -ge 2 ] && exit 7; exit 42")
	p.Spec.Volumes = []corev1.Volume{{Name: "counts", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	c := &p.Spec.Containers[0]
	c.VolumeMounts = []corev1.VolumeMount{{Name: "counts", MountPath: "/counts"}}
	c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyNever)
	c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
	end := nodeEnds(s, p, corev1.PodFailed)
	if c := nodeStatus(end, "main"); c.RestartCount != 1 || c.State.Terminated.ExitCode != 7 {
		t.Errorf("the container is %+v", c)
	}
}

// Ready waits for what others say about the pod.
func TestNodeReadinessGate(t *testing.T) {
	s := parallel(t)
	p := probePod("pod", "serve")
	p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	s.pod(p)
	got := s.podIs("pod", "ContainersReady", func(p *corev1.Pod) bool {
		return nodeCondition(p, corev1.ContainersReady) == corev1.ConditionTrue
	})
	if nodeCondition(got, corev1.PodReady) != corev1.ConditionFalse {
		t.Errorf("it is Ready without its gate: %+v", got.Status.Conditions)
	}
	_, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, "pod", types.StrategicMergePatchType,
		[]byte(`{"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	s.podIs("pod", "Ready", func(p *corev1.Pod) bool { return nodeCondition(p, corev1.PodReady) == corev1.ConditionTrue })
}
