package conformance

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func hostPath(path string, kind corev1.HostPathType) corev1.VolumeSource {
	return corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}
}

// onHost makes a folder of this test on the nodes' machine.
func (s *space) onHost() string {
	s.t.Helper()
	dir := filepath.Join(shared.Root, s.name)
	s.must(os.MkdirAll(dir, 0o755))
	return dir
}

// Covers: node.volumes
func TestStorageHostPath(t *testing.T) {
	plant := map[string]func(*space, string){
		"folder": func(s *space, path string) { s.must(os.Mkdir(path, 0o750)) },
		"file":   func(s *space, path string) { s.must(os.WriteFile(path, []byte("content"), 0o600)) },
		"socket": func(s *space, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
			s.must(err)
			s.t.Cleanup(func() { l.Close() })
		},
		"nothing": func(*space, string) {},
	}
	dir := seen{Perm: "-rwxr-xr-x"}
	for name, tc := range map[string]struct {
		there string // what there is, or the path of a device
		kind  corev1.HostPathType
		want  seen
		fails string // what the event says about the path
	}{
		"unset-folder":             {"folder", corev1.HostPathUnset, seen{Perm: "-rwxr-x---"}, ""},
		"unset-file":               {"file", corev1.HostPathUnset, seen{Perm: "-rw-------", Content: "content"}, ""},
		"unset-nothing":            {"nothing", corev1.HostPathUnset, dir, ""},
		"folder-or-create-folder":  {"folder", corev1.HostPathDirectoryOrCreate, seen{Perm: "-rwxr-x---"}, ""},
		"folder-or-create-nothing": {"nothing", corev1.HostPathDirectoryOrCreate, dir, ""},
		"folder-or-create-file":    {"file", corev1.HostPathDirectoryOrCreate, seen{}, "is not a directory"},
		"folder":                   {"folder", corev1.HostPathDirectory, seen{Perm: "-rwxr-x---"}, ""},
		"folder-nothing":           {"nothing", corev1.HostPathDirectory, seen{}, "is not a directory"},
		"file-or-create-file":      {"file", corev1.HostPathFileOrCreate, seen{Perm: "-rw-------", Content: "content"}, ""},
		"file-or-create-nothing":   {"nothing", corev1.HostPathFileOrCreate, seen{Perm: "-rw-r--r--"}, ""},
		"file-or-create-folder":    {"folder", corev1.HostPathFileOrCreate, seen{}, "is not a file"},
		"file":                     {"file", corev1.HostPathFile, seen{Perm: "-rw-------", Content: "content"}, ""},
		"file-socket":              {"socket", corev1.HostPathFile, seen{}, "is not a file"},
		"socket":                   {"socket", corev1.HostPathSocket, seen{Perm: "-rwxr-xr-x"}, ""},
		"socket-file":              {"file", corev1.HostPathSocket, seen{}, "is not a socket file"},
		"char-device":              {"/dev/null", corev1.HostPathCharDev, seen{}, ""},
		"char-device-file":         {"file", corev1.HostPathCharDev, seen{}, "is not a character device"},
		"char-device-block":        {"/dev/loop0", corev1.HostPathCharDev, seen{}, "is not a character device"},
		"block-device":             {"/dev/loop0", corev1.HostPathBlockDev, seen{}, ""},
		"block-device-char":        {"/dev/null", corev1.HostPathBlockDev, seen{}, "is not a block device"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			path := filepath.Join(s.onHost(), "it")
			if filepath.IsAbs(tc.there) {
				path = tc.there
				info, err := os.Stat(path)
				if err != nil {
					t.Skip(err)
				}
				tc.want.Perm = info.Mode().Perm().String()
				if st, ok := info.Sys().(*syscall.Stat_t); ok {
					tc.want.GID = int64(st.Gid)
				}
			} else {
				plant[tc.there](s, path)
			}
			p := mounted(probePod("pod", "look", "/it"), "/it", hostPath(path, tc.kind))
			if tc.fails != "" {
				s.pod(p)
				if e := s.event("pod", "Warning", "hostPath type check failed: "+path+" "+tc.fails); e.Reason != "FailedMount" {
					t.Errorf("the event's reason is %s", e.Reason)
				}
				return
			}
			tc.want.Path = "/it"
			got := s.looks(p)
			got[0].FS = "" // of whatever file system the node's is
			same(t, got, tc.want)
		})
	}
}

func TestStorageHostPathReadOnly(t *testing.T) {
	s := parallel(t)
	p := mounted(shellPod("pod", "touch /it/a 2>&1; true"), "/it", hostPath(s.onHost(), corev1.HostPathDirectory))
	p.Spec.Containers[0].VolumeMounts[0].ReadOnly = true
	if out := s.output(p); !strings.Contains(out, "Read-only file system") {
		t.Errorf("writing to a read-only volume says %q", out)
	}
}

// Covers: node.image-volumes
func TestStorageImageVolume(t *testing.T) {
	image := func(name string, policy corev1.PullPolicy) corev1.VolumeSource {
		return corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: name, PullPolicy: policy}}
	}
	for name, tc := range map[string]struct {
		src     corev1.VolumeSource
		subPath string
		script  string
		want    string
		fails   string
	}{
		"whole":           {image("busybox", ""), "", "ls /image/bin/busybox", "/image/bin/busybox", ""},
		"part":            {image("busybox", ""), "bin", "ls /image/busybox", "/image/busybox", ""},
		"read-only":       {image("busybox", ""), "", "touch /image/new 2>&1 || true", "touch: /image/new: Read-only file system", ""},
		"part-missing":    {image("busybox", ""), "no/such/part", "true", "", "no/such/part"},
		"image-missing":   {image("no-such-image", ""), "", "true", "", "no-such-image"},
		"image-not-there": {image("no-such-image-2", corev1.PullNever), "", "true", "", "not present with pull policy of Never"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := mounted(shellPod("pod", tc.script), "/image", tc.src)
			p.Spec.Containers[0].VolumeMounts[0].SubPath = tc.subPath
			if tc.fails != "" {
				s.pod(p)
				s.event("pod", "Warning", tc.fails)
				return
			}
			if out := strings.TrimSpace(s.output(p)); out != tc.want {
				t.Errorf("the pod says %q, want %q", out, tc.want)
			}
		})
	}
}

// evicted waits until a pod was ended for what it wrote.
func (s *space) evicted(name, message string) {
	s.t.Helper()
	got := s.podIs(name, "evicted", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	if got.Status.Reason != "Evicted" || got.Status.Message != message {
		s.t.Errorf("the pod failed as %q: %q, want %q", got.Status.Reason, got.Status.Message, message)
	}
	if e := s.event(name, "Warning", message); e.Reason != "Evicted" {
		s.t.Errorf("the event's reason is %s", e.Reason)
	}
}

// Covers: node.eviction
func TestStorageDiskLimits(t *testing.T) {
	limit := corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Mi")}
	for name, tc := range map[string]struct {
		file    string
		volume  *resource.Quantity
		limits  corev1.ResourceList
		message string
	}{
		"volume":    {"/scratch/f", ptr.To(resource.MustParse("1Mi")), nil, `Usage of EmptyDir volume "volume-0" exceeds the limit "1Mi". `},
		"container": {"/f", nil, limit, `Container main exceeded its local ephemeral storage limit "1Mi". `},
		"pod":       {"/scratch/f", nil, limit, `Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. `},
		// What the kubelet makes for the pod counts too (CVE-2020-8557).
		"etc-hosts":       {"/etc/hosts", nil, limit, `Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. `},
		"termination-log": {"/dev/termination-log", nil, limit, `Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. `},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			src := emptyDir("")
			src.EmptyDir.SizeLimit = tc.volume
			p := mounted(shellPod("pod", "dd if=/dev/zero of="+tc.file+" bs=1M count=4; sleep 3600"), "/scratch", src)
			p.Spec.Containers[0].Resources.Limits = tc.limits
			s.pod(p)
			s.evicted("pod", tc.message)
		})
	}
}

// Volumes that this node cannot mount say what it lacks; gitRepo is not there
// at all, as it runs what a repository says (CVE-2024-10220, CVE-2025-1767).
func TestStorageRefusedVolumes(t *testing.T) {
	for name, tc := range map[string]struct {
		src  corev1.VolumeSource
		want string
	}{
		"nfs": {corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "198.51.100.1", Path: "/export"}},
			"the node needs the kernel's NFS client and the mount.nfs helper"},
		"gitrepo": {corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{Repository: "https://git.example.com/x"}},
			"git-repo volume plugin has been disabled"},
		"iscsi": {corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{TargetPortal: "198.51.100.1:3260", IQN: "iqn.2001-04.com.example:storage", Lun: 0}},
			"iSCSI volumes need iscsiadm on the node (package open-iscsi)"},
		"fc": {corev1.VolumeSource{FC: &corev1.FCVolumeSource{TargetWWNs: []string{"500a0982991b8dc5"}, Lun: new(int32)}},
			"the node has no Fibre Channel adapter"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath("iscsiadm"); err == nil && name == "iscsi" {
				t.Skip("the node has iscsiadm")
			}
			s := parallel(t)
			s.pod(mounted(probePod("pod", "serve"), "/v", tc.src))
			if e := s.event("pod", "Warning", tc.want); e.Reason != "FailedMount" {
				t.Errorf("the event's reason is %s: %s", e.Reason, e.Message)
			}
		})
	}
}
