package conformance

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// nodeSubPathPod sleeps with a volume at /volume_mount and, below a path made
// of variables, at /subpath_mount.
func nodeSubPathPod(expr string, env ...corev1.EnvVar) *corev1.Pod {
	p := shellPod("pod", "sleep 600")
	p.Spec.Volumes = []corev1.Volume{{Name: "workdir", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	c := &p.Spec.Containers[0]
	c.Env = env
	c.VolumeMounts = []corev1.VolumeMount{
		{Name: "workdir", MountPath: "/subpath_mount", SubPathExpr: expr}, {Name: "workdir", MountPath: "/volume_mount"},
	}
	return p
}

// Conformance: [sig-node] Variable Expansion should allow substituting values in a volume subpath
func TestNodeSubPath(t *testing.T) {
	s := parallel(t)
	p := nodeSubPathPod("$(POD_NAME)", fieldEnv("POD_NAME", "metadata.name"))
	p.Spec.Containers[0].Command = []string{"sh", "-c", "test -d /volume_mount/pod && echo there"}
	if out := s.output(p); out != "there\n" {
		t.Errorf("the pod wrote %q", out)
	}
}

// nodeNotCreated waits until the pod's container cannot be created, and returns
// why.
func nodeNotCreated(s *space) string {
	s.t.Helper()
	p := s.podIs("pod", "in CreateContainerConfigError", func(p *corev1.Pod) bool {
		c := nodeStatus(p, "main")
		return c != nil && c.State.Waiting != nil && c.State.Waiting.Reason == "CreateContainerConfigError"
	})
	if p.Status.Phase != corev1.PodPending {
		s.t.Errorf("the phase is %s", p.Status.Phase)
	}
	return nodeStatus(p, "main").State.Waiting.Message
}

func TestNodeSubPathRefused(t *testing.T) {
	tests := map[string]struct{ value, why string }{
		// Conformance: [sig-node] Variable Expansion should fail substituting values in a volume subpath with backticks
		"backtrack": {"..", "unable to provision SubPath `..`: must not contain '..'"},
		"in middle": {"a/../b", "unable to provision SubPath `a/../b`: must not contain '..'"},
		// Conformance: [sig-node] Variable Expansion should fail substituting values in a volume subpath with absolute path
		"absolute": {"/tmp", "error SubPath `/tmp` must not be an absolute path"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.pod(nodeSubPathPod("$(POD_NAME)", corev1.EnvVar{Name: "POD_NAME", Value: tc.value}))
			if why := nodeNotCreated(s); why != tc.why {
				t.Errorf("the container waits for %q", why)
			}
			nodeRemove(s, "pod")
		})
	}
}

// Conformance: [sig-node] Variable Expansion should verify that a failing subpath expansion can be modified during the lifecycle of a container [Slow]
func TestNodeSubPathRepaired(t *testing.T) {
	s := parallel(t)
	p := nodeSubPathPod("$(ANNOTATION)/$(NAME)", corev1.EnvVar{Name: "NAME", Value: "foo"}, fieldEnv("ANNOTATION", "metadata.annotations['mysubpath']"))
	p.Annotations = map[string]string{"notmysubpath": "mypath"}
	s.pod(p)
	nodeNotCreated(s)
	nodeUpdate(s, "pod", func(p *corev1.Pod) { p.Annotations["mysubpath"] = "mypath" })
	s.podIs("pod", "Ready", func(p *corev1.Pod) bool { return nodeCondition(p, corev1.PodReady) == corev1.ConditionTrue })
	s.mustExec("pod", "main", "test", "-d", "/volume_mount/mypath/foo")
	nodeRemove(s, "pod")
}

// Conformance: [sig-node] Variable Expansion should succeed in writing subpaths in container
func TestNodeSubPathWrites(t *testing.T) {
	s := parallel(t)
	p := nodeSubPathPod("$(ANNOTATION)/$(NAME)", corev1.EnvVar{Name: "NAME", Value: "foo"}, fieldEnv("ANNOTATION", "metadata.annotations['mysubpath']"))
	p.Annotations = map[string]string{"mysubpath": "mypath"}
	s.ready(p)
	s.mustExec("pod", "main", "touch", "/volume_mount/mypath/foo/test.log")
	if out := s.mustExec("pod", "main", "ls", "/subpath_mount"); strings.TrimSpace(out) != "test.log" {
		t.Errorf("the sub-path holds %q", out)
	}
	// The pod runs on with what it has, and is cleaned up.
	nodeUpdate(s, "pod", func(p *corev1.Pod) { p.Annotations["mysubpath"] = "mynewpath" })
	nodeStays(s, 2*time.Second, func(p *corev1.Pod) error {
		if c := nodeStatus(p, "main"); c.State.Running == nil || c.RestartCount != 0 {
			t.Fatalf("the container is %+v", c)
		}
		return nil
	}, "pod")
	nodeRemove(s, "pod")
}
