package conformance

import (
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestNodeUsers(t *testing.T) {
	tests := map[string]struct {
		pod       *corev1.PodSecurityContext
		container *corev1.SecurityContext
		want      string
	}{
		// Conformance: [sig-node] Security Context When creating a container with runAsUser should run the container with uid 65534 [LinuxOnly]
		"nobody": {container: &corev1.SecurityContext{RunAsUser: ptr.To[int64](65534)}, want: "uid=65534 gid=65534 groups=65534\n"},
		// Conformance: [sig-node] Security Context should support container.SecurityContext.RunAsUser And container.SecurityContext.RunAsGroup [LinuxOnly]
		"user and group of the container": {
			pod:       &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](7), RunAsGroup: ptr.To[int64](8)},
			container: &corev1.SecurityContext{RunAsUser: ptr.To[int64](1001), RunAsGroup: ptr.To[int64](2002)},
			want:      "uid=1001 gid=2002 groups=2002\n"},
		// Conformance: [sig-node] Security Context should support pod.Spec.SecurityContext.RunAsUser And pod.Spec.SecurityContext.RunAsGroup [LinuxOnly]
		"user and group of the pod": {
			pod:  &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](1001), RunAsGroup: ptr.To[int64](2002)},
			want: "uid=1001 gid=2002 groups=2002\n"},
		"supplemental groups": {
			pod:  &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](1001), SupplementalGroups: []int64{1234}, FSGroup: ptr.To[int64](5678)},
			want: "uid=1001 gid=0 groups=0,1234,5678\n"},
	}
	names := regexp.MustCompile(`\([^)]*\)`)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := shellPod("pod", "id")
			p.Spec.SecurityContext, p.Spec.Containers[0].SecurityContext = tt.pod, tt.container
			out := names.ReplaceAllString(s.output(p), "")
			if out != tt.want {
				t.Errorf("id says %q, want %q", out, tt.want)
			}
		})
	}
}

// Conformance: [sig-node] Security Context When creating a pod with privileged should run the container as unprivileged when false [LinuxOnly]
func TestNodePrivileged(t *testing.T) {
	for name, privileged := range map[string]bool{"unprivileged": false, "privileged": true} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := shellPod("pod", "ip link add name probe0 type bridge || true")
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &privileged}
			want := ""
			if !privileged {
				want = "ip: RTNETLINK answers: Operation not permitted\n"
			}
			if out := s.output(p); out != want {
				t.Errorf("making an interface: %q, want %q", out, want)
			}
		})
	}
}

// A program that runs as its owner, root, gives a user nothing where escalation
// is not allowed.
//
// Conformance: [sig-node] Security Context when creating containers with AllowPrivilegeEscalation should not allow privilege escalation when false [LinuxOnly]
func TestNodePrivilegeEscalation(t *testing.T) {
	for name, tt := range map[string]struct {
		allow *bool
		want  string
	}{
		"false":   {ptr.To(false), "Uid:\t1000\t1000\t1000\t1000"},
		"true":    {ptr.To(true), "Uid:\t1000\t0\t0\t0"},
		"not set": {nil, "Uid:\t1000\t0\t0\t0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := probePod("pod")
			p.Spec.Volumes = []corev1.Volume{{Name: "volume", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
			mounts := []corev1.VolumeMount{{Name: "volume", MountPath: "/volume"}}
			p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "probe", Args: []string{"setuid", "/volume/program"}, VolumeMounts: mounts}}
			c := &p.Spec.Containers[0]
			c.Command, c.VolumeMounts = []string{"/volume/program", "cat", "/proc/self/status"}, mounts
			c.SecurityContext = &corev1.SecurityContext{RunAsUser: ptr.To[int64](1000), AllowPrivilegeEscalation: tt.allow}
			if out := s.output(p); !strings.Contains(out, tt.want+"\n") {
				t.Errorf("the process lacks %q:\n%s", tt.want, out)
			}
		})
	}
}

// Conformance: [sig-node] Sysctls [LinuxOnly] should support sysctls [Environment:NotInUserNS]
func TestNodeSysctls(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "/bin/sysctl kernel.shm_rmid_forced net.ipv4.ip_local_port_range")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{
		{Name: "kernel.shm_rmid_forced", Value: "1"}, {Name: "net/ipv4/ip_local_port_range", Value: "20000\t30000"},
	}}
	if out := s.output(p); out != "kernel.shm_rmid_forced = 1\nnet.ipv4.ip_local_port_range = 20000\t30000\n" {
		t.Errorf("sysctl says %q", out)
	}
}

// Conformance: [sig-node] Sysctls [LinuxOnly] should reject invalid sysctls
func TestNodeSysctlsInvalid(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "true")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{
		{Name: "foo-", Value: "bar"}, {Name: "kernel.shmmax", Value: "100000000"},
		{Name: "safe-and-unsafe", Value: "100000000"}, {Name: "bar..", Value: "42"},
	}}
	text := nodeRefused(s, p)
	for want, has := range map[string]bool{
		`Invalid value: "foo-"`: true, `Invalid value: "bar.."`: true, "safe-and-unsafe": false, "kernel.shmmax": false,
	} {
		if strings.Contains(text, want) != has {
			t.Errorf("the refusal has %q: %v, want %v: %s", want, !has, has, text)
		}
	}
}

// A sysctl that is valid and not allowed on the node makes the pod fail.
func TestNodeSysctlsUnsafe(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "true")
	p.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.msgmax", Value: "10000"}}}
	if end := nodeEnds(s, p, corev1.PodFailed); end.Status.Reason != "SysctlForbidden" {
		t.Errorf("the pod failed for %q: %s", end.Status.Reason, end.Status.Message)
	}
}
