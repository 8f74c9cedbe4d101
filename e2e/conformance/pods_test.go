package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/ptr"
)

// probePod is a pod of one container of the probe image, which ends within a
// second of being told to and is not started again.
func probePod(name string, args ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: ptr.To[int64](1),
			Containers:                    []corev1.Container{{Name: "main", Image: "probe", Args: args}},
		},
	}
}

// shellPod is a pod that runs a script of busybox' shell.
func shellPod(name, script string) *corev1.Pod {
	p := probePod(name)
	p.Spec.Containers[0].Image = "busybox"
	p.Spec.Containers[0].Command = []string{"/bin/sh", "-c", script}
	return p
}

// pod makes a pod.
func (s *space) pod(p *corev1.Pod) *corev1.Pod {
	s.t.Helper()
	out, err := s.client.CoreV1().Pods(s.name).Create(s.ctx, p, metav1.CreateOptions{})
	s.must(err)
	return out
}

// podIs waits until a pod is as is says and returns it.
func (s *space) podIs(name, what string, is func(*corev1.Pod) bool) *corev1.Pod {
	s.t.Helper()
	var last *corev1.Pod
	s.eventually(90*time.Second, "pod "+name+" "+what, func() error {
		p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if last = p; !is(p) {
			return fmt.Errorf("it is %s: %+v", p.Status.Phase, p.Status.ContainerStatuses)
		}
		return nil
	})
	return last
}

// ready makes a pod and waits until it is Ready.
func (s *space) ready(p *corev1.Pod) *corev1.Pod {
	s.t.Helper()
	s.pod(p)
	return s.podIs(p.Name, "Ready", func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	})
}

// output makes a pod, waits until it succeeded and returns what its container
// main wrote.
func (s *space) output(p *corev1.Pod) string {
	s.t.Helper()
	s.pod(p)
	end := s.podIs(p.Name, "at its end", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	out := s.logs(p.Name, "main")
	if end.Status.Phase != corev1.PodSucceeded {
		s.t.Fatalf("pod %s is %s: %+v\n%s", p.Name, end.Status.Phase, end.Status.ContainerStatuses, out)
	}
	return out
}

// logs are what a container wrote.
func (s *space) logs(pod, container string) string {
	s.t.Helper()
	b, err := s.client.CoreV1().Pods(s.name).GetLogs(pod, &corev1.PodLogOptions{Container: container}).DoRaw(s.ctx)
	s.must(err)
	return string(b)
}

// exec runs a command in a container and returns both outputs.
func (s *space) exec(pod, container string, command ...string) (string, error) {
	s.t.Helper()
	url := s.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(s.name).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	e, err := remotecommand.NewWebSocketExecutor(s.config, "GET", url.String())
	if err != nil {
		return "", err
	}
	var out, errs bytes.Buffer // one would lose what is read into it by two
	err = e.StreamWithContext(s.ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errs})
	return out.String() + errs.String(), err
}

// mustExec runs a command that must succeed.
func (s *space) mustExec(pod, container string, command ...string) string {
	s.t.Helper()
	out, err := s.exec(pod, container, command...)
	if err != nil {
		s.t.Fatalf("%s in %s: %v\n%s", strings.Join(command, " "), pod, err, out)
	}
	return out
}

// Conformance: [sig-node] Pods should get a host IP
func TestPodHostIP(t *testing.T) {
	s := parallel(t)
	p := s.ready(probePod("pod", "serve"))
	if net.ParseIP(p.Status.HostIP) == nil {
		t.Errorf("status.hostIP is %q, want an address", p.Status.HostIP)
	}
}

// Conformance: [sig-node] Pods should support retrieving logs from the container over websockets
func TestPodLogs(t *testing.T) {
	s := parallel(t)
	s.ready(shellPod("pod", "echo container is alive; sleep 3600"))
	stream, err := s.client.CoreV1().Pods(s.name).GetLogs("pod", &corev1.PodLogOptions{}).Stream(s.ctx)
	s.must(err)
	b, err := io.ReadAll(stream)
	if err := errors.Join(err, stream.Close()); err != nil || string(b) != "container is alive\n" {
		t.Errorf("the log is %q (%v)", b, err)
	}
}

// Conformance: [sig-node] Pods should support remote command execution over websockets
func TestPodExec(t *testing.T) {
	s := parallel(t)
	s.ready(probePod("pod", "serve"))
	if out := s.mustExec("pod", "main", "/probe", "echo", "remote", "execution"); out != "remote execution\n" {
		t.Errorf("the command wrote %q", out)
	}
}

// Conformance: [sig-node] Downward API should provide host IP as an env var
func TestDownwardHostIP(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "echo $HOST_IP")
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "HOST_IP", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.hostIP"},
	}}}
	if out := strings.TrimSpace(s.output(p)); net.ParseIP(out) == nil {
		t.Errorf("the environment says %q, want an address", out)
	}
}
