package iscsi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/mount-utils"
	"k8s.io/utils/exec"
	"k8s.io/utils/ptr"

	"skiff/kubelet/volumes/scsi"
	"skiff/kubelet/volumes/volume"
)

// storage is a target on this machine, with two disks.
type storage struct {
	*Plugin
	t    *testing.T
	root string
}

// startStorage runs Debian's tgt and iscsid; it needs the kernel's iSCSI initiator.
func startStorage(t *testing.T) *storage {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"iscsiadm", "iscsid", "iscsi-iname", "tgtd", "tgtadm"} {
		if _, err := osexec.LookPath(program); err != nil {
			t.Skipf("needs %s: packages open-iscsi and tgt", program)
		}
	}
	_ = osexec.Command("modprobe", "-a", "iscsi_tcp", "sd_mod").Run() // they may be built in
	if _, err := os.Stat("/sys/class/iscsi_transport/tcp"); err != nil {
		t.Skip("the kernel has no iscsi_tcp")
	}
	s := &storage{t: t, root: t.TempDir()}
	if _, err := os.Stat("/etc/iscsi/initiatorname.iscsi"); errors.Is(err, fs.ErrNotExist) {
		name := "InitiatorName=" + s.do("iscsi-iname")
		if err := os.WriteFile("/etc/iscsi/initiatorname.iscsi", []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start("tgtd", "-f")
	s.start("iscsid", "-f")
	s.eventually("tgtd answers", func() error { return osexec.Command("tgtadm", "--op", "show", "--mode", "system").Run() })
	s.tgt("--op", "new", "--mode", "target", "--tid", "1", "-T", iqn)
	for lun := 1; lun <= 2; lun++ {
		file := filepath.Join(s.root, fmt.Sprint("disk", lun))
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 64<<20)); err != nil {
			t.Fatal(err)
		}
		s.tgt("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", fmt.Sprint(lun), "-b", file)
	}
	s.tgt("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
	s.tgt("--op", "new", "--mode", "account", "--user", "user", "--password", "hidden")
	s.tgt("--op", "bind", "--mode", "account", "--tid", "1", "--user", "user")
	s.begin()
	return s
}

// begin is the kubelet's start.
func (s *storage) begin() {
	s.Plugin = New(Config{Root: filepath.Join(s.root, "kubelet"), Mounter: mount.New(""), Exec: exec.New(), Objects: secrets{}, Host: scsi.Host{Root: "/"}})
}

// start runs a program until the test ends.
func (s *storage) start(name string, args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := osexec.CommandContext(ctx, name, args...)
	out, err := os.Create(filepath.Join(s.root, name+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cancel()
		_ = c.Wait()
		_ = out.Close()
	})
}

func (s *storage) do(name string, args ...string) string {
	s.t.Helper()
	out, err := osexec.Command(name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func (s *storage) tgt(args ...string) { s.do("tgtadm", append([]string{"--lld", "iscsi"}, args...)...) }

func (s *storage) eventually(what string, is func() error) {
	s.t.Helper()
	var err error
	if wait.PollUntilContextTimeout(s.t.Context(), 100*time.Millisecond, 2*time.Minute, true, func(context.Context) (bool, error) {
		err = is()
		return err == nil, nil
	}) != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *storage) request(pod string, lun int32, block bool) *volume.Request {
	r := &volume.Request{
		Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", UID: types.UID(pod)}}, Volume: &v1.Volume{Name: "v"},
		PVC: &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}},
		PV: &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: v1.PersistentVolumeSpec{
			PersistentVolumeSource: v1.PersistentVolumeSource{ISCSI: &v1.ISCSIPersistentVolumeSource{
				TargetPortal: "127.0.0.1", IQN: iqn, Lun: lun, SessionCHAPAuth: true, SecretRef: &v1.SecretReference{Name: "chap"},
			}},
		}},
	}
	folder := "volumes"
	if block {
		r.PV.Spec.VolumeMode, folder = ptr.To(v1.PersistentVolumeBlock), "volumeDevices"
	}
	r.Dir = filepath.Join(s.root, "kubelet/pods", pod, folder, "kubernetes.io~iscsi", "pv")
	return r
}

func (s *storage) setUp(r *volume.Request) *volume.Mounted {
	s.t.Helper()
	m, err := s.SetUp(s.t.Context(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *storage) tearDown(r *volume.Request) {
	s.t.Helper()
	if err := s.TearDown(s.t.Context(), r.Dir); err != nil {
		s.t.Fatal(err)
	}
}

// sessions are how many the kernel has.
func (s *storage) sessions(want int) {
	s.t.Helper()
	if got := glob("/sys/class/iscsi_session/*"); len(got) != want {
		s.t.Errorf("%d sessions, want %d: %v", len(got), want, got)
	}
}

// TestTarget mounts disks of a real target: made once and shared, kept over a restart,
// as a device, and gone with their last pod.
//
// Covers: node.disks
func TestTarget(t *testing.T) {
	s := startStorage(t)
	a, b, c := s.request("a", 1, false), s.request("b", 1, false), s.request("c", 2, true)
	if err := os.WriteFile(filepath.Join(s.setUp(a).Path, "file"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("mounted: %s", s.do("findmnt", "-n", a.Dir))
	if got, err := os.ReadFile(filepath.Join(s.setUp(b).Path, "file")); err != nil || string(got) != "kept" {
		t.Errorf("the other pod reads %q, %v", got, err)
	}
	s.sessions(1)
	device := s.setUp(c)
	t.Logf("device: %s", device.Path)
	if f, err := os.OpenFile(device.Path, os.O_RDWR, 0); err != nil {
		t.Error(err)
	} else {
		_, err := f.Write(make([]byte, 4096))
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			t.Error(err)
		}
	}
	s.sessions(1)
	s.tearDown(a)
	s.begin()
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(b.Dir, "file")); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	s.tearDown(b)
	s.sessions(1)
	if disks := glob("/sys/class/iscsi_session/*/device/target*/*/block/*"); len(disks) != 1 {
		t.Errorf("one disk is used, and there are %v", disks)
	}
	s.tearDown(c)
	s.sessions(0)
	if out, err := osexec.Command("iscsiadm", "-m", "node").CombinedOutput(); err == nil || !strings.Contains(string(out), "No records found") {
		t.Errorf("records are left: %s", out)
	}
	if got, err := os.ReadFile(filepath.Join(s.setUp(a).Path, "file")); err != nil || string(got) != "kept" {
		t.Errorf("at the next login the disk has %q, %v", got, err)
	}
	s.tearDown(a)
	s.sessions(0)
	// By two portals, under a name of its own.
	two := s.request("e", 1, false)
	two.PV.Spec.ISCSI.Portals, two.PV.Spec.ISCSI.InitiatorName = []string{"127.0.0.2"}, ptr.To("iqn.2001-04.com.example:node")
	s.setUp(two)
	s.sessions(2)
	for _, dir := range glob("/sys/class/iscsi_session/*") {
		if got := read(dir, "initiatorname"); got != "iqn.2001-04.com.example:node" {
			t.Errorf("the target knows the node as %q", got)
		}
	}
	s.tearDown(two)
	s.sessions(0)
	if left := s.do("iscsiadm", "-m", "iface"); strings.Contains(left, ":pv") {
		t.Errorf("interfaces: %s", left)
	}
	missing := s.request("d", 9, false)
	s.cfg.Appear = time.Second
	if _, err := s.SetUp(t.Context(), missing); err == nil || !strings.Contains(err.Error(), "does not appear") {
		t.Errorf("a disk that is not there: %v", err)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	s.sessions(0)
	s.tgt("--op", "delete", "--mode", "account", "--user", "user")
	s.tgt("--op", "new", "--mode", "account", "--user", "user", "--password", "changed")
	s.tgt("--op", "bind", "--mode", "account", "--tid", "1", "--user", "user")
	_, err := s.SetUp(t.Context(), a)
	if err == nil || !strings.Contains(err.Error(), "iscsi: failed to attach disk: Error: ") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("a wrong password: %v", err)
	}
	t.Log(err)
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
}
