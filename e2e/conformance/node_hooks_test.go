package conformance

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// nodeHooked makes a server that logs the hooks that reach it, and a pod with
// hooks on the same node, which is deleted once it is Ready; it fails unless the
// server saw what is wanted.
func nodeHooked(s *space, hooks func(server *corev1.Pod) *corev1.Lifecycle, want ...string) {
	s.t.Helper()
	server := s.ready(probePod("server", "serve", "--https", ":8443"))
	p := probePod("hooked", "serve")
	p.Spec.NodeName = server.Spec.NodeName
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](15)
	p.Spec.Containers[0].Lifecycle = hooks(server)
	s.ready(p)
	saw := func() error {
		log := s.logs("server", "main")
		for _, w := range want {
			if !strings.Contains(log, "probe: hook "+w+"\n") {
				return errors.New("the server did not see " + w + ": " + log)
			}
		}
		return nil
	}
	if p.Spec.Containers[0].Lifecycle.PostStart != nil {
		s.must(saw()) // a container is not Running before its hook ended
	}
	nodeRemove(s, "hooked")
	s.must(saw())
}

func nodeHookExec(server *corev1.Pod, path string) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/probe", "get", "http://" + server.Status.PodIP + ":8080" + path}}}
}

func nodeHookHTTP(server *corev1.Pod, scheme corev1.URIScheme, port int32, path string) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
		Host: server.Status.PodIP, Port: intstr.FromInt32(port), Path: path, Scheme: scheme,
		HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Hook", Value: "header"}},
	}}
}

func TestNodeHooks(t *testing.T) {
	tests := map[string]struct {
		hooks func(*corev1.Pod) *corev1.Lifecycle
		want  string
	}{
		// Conformance: [sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart exec hook properly
		"poststart exec": {func(s *corev1.Pod) *corev1.Lifecycle {
			return &corev1.Lifecycle{PostStart: nodeHookExec(s, "/hook/a")}
		}, "GET /hook/a "},
		// Conformance: [sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute poststart http hook properly
		"poststart http": {func(s *corev1.Pod) *corev1.Lifecycle {
			return &corev1.Lifecycle{PostStart: nodeHookHTTP(s, "", 8080, "/hook/b?x=1")}
		}, "GET /hook/b header"},
		"poststart https": {func(s *corev1.Pod) *corev1.Lifecycle {
			return &corev1.Lifecycle{PostStart: nodeHookHTTP(s, corev1.URISchemeHTTPS, 8443, "/hook/c")}
		}, "GET /hook/c header"},
		// Conformance: [sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop exec hook properly
		"prestop exec": {func(s *corev1.Pod) *corev1.Lifecycle { return &corev1.Lifecycle{PreStop: nodeHookExec(s, "/hook/d")} }, "GET /hook/d "},
		// Conformance: [sig-node] Container Lifecycle Hook when create a pod with lifecycle hook should execute prestop http hook properly
		"prestop http": {func(s *corev1.Pod) *corev1.Lifecycle {
			return &corev1.Lifecycle{PreStop: nodeHookHTTP(s, corev1.URISchemeHTTP, 8080, "/hook/e")}
		}, "GET /hook/e header"},
		"prestop https": {func(s *corev1.Pod) *corev1.Lifecycle {
			return &corev1.Lifecycle{PreStop: nodeHookHTTP(s, corev1.URISchemeHTTPS, 8443, "/hook/f")}
		}, "GET /hook/f header"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { nodeHooked(parallel(t), tt.hooks, tt.want) })
	}
}

// The hook runs before the container is told to end, while the pod's other
// parts still answer.
//
// Conformance: [sig-node] PreStop should call prestop when killing a pod
func TestNodePreStopBeforeTerm(t *testing.T) {
	s := parallel(t)
	server := s.ready(probePod("server", "serve"))
	p := probePod("hooked", "serve")
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](15)
	p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{
		Command: []string{"/probe", "get", "http://127.0.0.1:8080/get?url=http://" + server.Status.PodIP + ":8080/hook/stop"},
	}}}
	s.ready(p)
	nodeRemove(s, "hooked")
	if log := s.logs("server", "main"); !strings.Contains(log, "probe: hook GET /hook/stop") {
		t.Errorf("the server did not see the hook:\n%s", log)
	}
}

func TestNodeHookSleep(t *testing.T) {
	s := parallel(t)
	p := probePod("pod", "serve")
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](20)
	p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{
		PostStart: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 2}},
		PreStop:   &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}},
	}
	begin := time.Now()
	s.ready(p)
	if d := time.Since(begin); d < 2*time.Second {
		t.Errorf("Ready after %v, before the hook of 2 s ended", d)
	}
	begin = time.Now()
	nodeRemove(s, "pod")
	if d := time.Since(begin); d < 3*time.Second {
		t.Errorf("gone after %v, before the hook of 3 s ended", d)
	}
}

// A container whose hook fails is ended and started again.
func TestNodeHookFails(t *testing.T) {
	s := parallel(t)
	p := probePod("pod", "serve")
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/probe", "exit", "3"}}}}
	s.pod(p)
	nodeHasEvent(s, "pod", "FailedPostStartHook", "PostStartHook failed")
	s.podIs("pod", "started again", func(p *corev1.Pod) bool {
		c := nodeStatus(p, "main")
		return c != nil && c.RestartCount > 0
	})
}
