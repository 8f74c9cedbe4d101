package conformance

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// Conformance: [sig-node] Kubelet when scheduling a busybox command in a pod should print the output to logs
func TestNodeLogs(t *testing.T) {
	s := parallel(t)
	if out := s.output(shellPod("pod", "echo 'Hello World'; echo error >&2")); !strings.Contains(out, "Hello World\n") || !strings.Contains(out, "error\n") {
		t.Errorf("the log is %q", out)
	}
}

// Conformance: [sig-node] Kubelet when scheduling a busybox command that always fails in a pod should have an terminated reason
// Conformance: [sig-node] Kubelet when scheduling a busybox command that always fails in a pod should be possible to delete
func TestNodeAlwaysFails(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "")
	p.Spec.Containers[0].Command = []string{"/bin/false"}
	s.pod(p)
	got := s.podIs("pod", "terminated", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Terminated != nil
	})
	if end := got.Status.ContainerStatuses[0].State.Terminated; end.ExitCode != 1 || end.Reason != "Error" {
		t.Errorf("the container ended with %+v", end)
	}
	nodeRemove(s, "pod")
}

// Conformance: [sig-node] Kubelet when scheduling a read only busybox container should not write to root filesystem [LinuxOnly]
// Conformance: [sig-node] Security Context When creating a pod with readOnlyRootFilesystem should run the container with writable rootfs when readOnlyRootFilesystem=false
func TestNodeRootFilesystem(t *testing.T) {
	for name, only := range map[string]bool{"read-only": true, "writable": false} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := shellPod("pod", "echo test > /file; cat /file; sleep 1; touch /dev/shm/ok && echo end")
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{ReadOnlyRootFilesystem: &only}
			want := "test\nend\n"
			if only {
				want = "/bin/sh: can't create /file: Read-only file system\ncat: can't open '/file': No such file or directory\nend\n"
			}
			if out := s.output(p); out != want {
				t.Errorf("the pod wrote %q, want %q", out, want)
			}
		})
	}
}

// Conformance: [sig-node] Kubelet when scheduling an agnhost Pod with hostAliases should write entries to /etc/hosts
func TestNodeHostAliases(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "cat /etc/hosts")
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "123.45.67.89", Hostnames: []string{"foo", "bar"}}, {IP: "2001:db8::1", Hostnames: []string{"six"}}}
	lines := strings.Split(s.output(p), "\n")
	for _, want := range []string{"# Kubernetes-managed hosts file.", "# Entries added by HostAliases.", "123.45.67.89\tfoo\tbar", "2001:db8::1\tsix", "127.0.0.1\tlocalhost"} {
		if !slices.Contains(lines, want) {
			t.Errorf("/etc/hosts lacks %q:\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

// Conformance: [sig-node] KubeletManagedEtcHosts should test kubelet managed /etc/hosts file
func TestNodeEtcHosts(t *testing.T) {
	s := parallel(t)
	pod := func(name string, hostNetwork bool) *corev1.Pod {
		p := shellPod(name, "sleep 900")
		p.Spec.HostNetwork = hostNetwork
		p.Spec.Volumes = []corev1.Volume{{Name: "hosts", VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: "/etc/hosts", Type: ptr.To(corev1.HostPathFileOrCreate)},
		}}}
		main := p.Spec.Containers[0]
		main.VolumeMounts = []corev1.VolumeMount{{Name: "hosts", MountPath: "/etc/hosts-original"}}
		second, own := main, main
		second.Name = "second"
		own.Name = "own"
		own.VolumeMounts = append([]corev1.VolumeMount{{Name: "hosts", MountPath: "/etc/hosts"}}, main.VolumeMounts...)
		p.Spec.Containers = []corev1.Container{main, second, own}
		return p
	}
	s.ready(pod("pod", false))
	s.ready(pod("host", true))
	const mark = "# Kubernetes-managed hosts file."
	for _, tt := range []struct {
		pod, container string
		managed        bool
	}{
		{"pod", "main", true}, {"pod", "second", true}, {"pod", "own", false},
		{"host", "main", false}, {"host", "second", false}, {"host", "own", false},
	} {
		got := s.mustExec(tt.pod, tt.container, "cat", "/etc/hosts")
		if managed := strings.Contains(got, mark); managed != tt.managed {
			t.Errorf("/etc/hosts of %s in %s is managed: %v, want %v:\n%s", tt.container, tt.pod, managed, tt.managed, got)
		}
		original := s.mustExec(tt.pod, tt.container, "cat", "/etc/hosts-original")
		if strings.Contains(original, mark) {
			t.Errorf("the node's /etc/hosts is managed:\n%s", original)
		}
		if !tt.managed && !strings.HasSuffix(got, original) {
			t.Errorf("/etc/hosts of %s in %s is not the node's:\n%s", tt.container, tt.pod, got)
		}
	}
}

// Conformance: [sig-node] ImageVolume should succeed with pod and pull policy of Always [LinuxOnly] [MinimumKubeletVersion:1.35]
func TestNodeImageVolume(t *testing.T) {
	s := parallel(t)
	p := probePod("pod", "serve")
	p.Spec.Volumes = []corev1.Volume{{Name: "volume", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "busybox:1.36", PullPolicy: corev1.PullAlways}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "volume", MountPath: "/volume"}, {Name: "volume", MountPath: "/bin", SubPath: "bin"},
	}
	s.ready(p)
	if out := s.mustExec("pod", "main", "/volume/bin/ls", "/volume/bin/busybox"); out != "/volume/bin/busybox\n" {
		t.Errorf("the volume holds %q", out)
	}
	if out, err := s.exec("pod", "main", "/bin/touch", "/volume/file"); err == nil || !strings.Contains(out, "Read-only file system") {
		t.Errorf("writing to the volume: %q, %v", out, err)
	}
}
