package iscsi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/mount-utils"
	"k8s.io/utils/exec"

	"skiff/kubelet/volumes/scsi"
	"skiff/kubelet/volumes/scsi/scsitest"
	"skiff/kubelet/volumes/volume"
)

const iqn = "iqn.2001-04.com.example:storage"

// node is one whose kernel makes a disk for each login.
type node struct {
	*Plugin
	t        *testing.T
	host     scsi.Host
	mounter  *mount.FakeMounter
	programs scsitest.Programs
	sessions int
	// refused are portals that cannot be logged in to, and udev names disks.
	refused string
	udev    bool
	// over is the multipath device that appears over all disks.
	over bool
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, host: scsitest.Tree(t, map[string]string{"sys/class/": "", "dev/": ""}), mounter: mount.NewFakeMounter(nil), udev: true}
	n.programs.Answer = n.answer
	n.Plugin = New(Config{Root: t.TempDir(), Mounter: n.mounter, Exec: n.programs.Exec(), Objects: secrets{}, Host: n.host, Appear: time.Second})
	return n
}

type secrets struct{ volume.Objects }

func (secrets) Secret(_ context.Context, namespace, name string) (*v1.Secret, error) {
	if name != "chap" {
		return nil, errors.New("not found")
	}
	return &v1.Secret{Data: map[string][]byte{sessionUser: []byte("user"), sessionPassword: []byte("hidden")}}, nil
}

// answer is what the node's programs do.
func (n *node) answer(argv string) (string, error) {
	switch {
	case strings.HasPrefix(argv, "blkid"):
		return "TYPE=ext4\n", nil
	case strings.HasSuffix(argv, "-o show"):
		return "iface.transport_name = tcp\n", nil
	case strings.Contains(argv, "--discover") && n.refused != "" && strings.Contains(argv, n.refused):
		return "cannot make connection", scsitest.Exit(4)
	case strings.HasSuffix(argv, "--login"):
		f := strings.Fields(argv)
		n.session(f[4], f[8])
	}
	return "", nil
}

// session makes a session by a portal with a disk, as number 7 of the target.
func (n *node) session(portal, iface string) {
	n.sessions++
	id, name := n.sessions, fmt.Sprintf("sd%c", 'a'+n.sessions)
	ip, port, _ := strings.Cut(portal, ":")
	dir := fmt.Sprintf("sys/devices/host%d/session%d", id, id)
	files := map[string]string{
		fmt.Sprintf("sys/class/iscsi_session/session%d/targetname", id):                 iqn + "\n",
		fmt.Sprintf("sys/class/iscsi_session/session%d/ifacename", id):                  iface + "\n",
		fmt.Sprintf("sys/class/iscsi_session/session%d/device", id):                     "-> ../../../devices/host" + fmt.Sprint(id) + "/session" + fmt.Sprint(id),
		fmt.Sprintf("sys/class/iscsi_connection/connection%d:0/persistent_address", id): ip + "\n",
		fmt.Sprintf("sys/class/iscsi_connection/connection%d:0/persistent_port", id):    port + "\n",
		fmt.Sprintf("sys/class/scsi_host/host%d/scan", id):                              "",
		fmt.Sprintf("%s/target%d:0:0/%d:0:0:7/block/%s/x", dir, id, id, name):           "",
		"sys/block/" + name + "/device/delete":                                          "",
		"dev/" + name:                                                                   "",
	}
	if n.udev {
		files[fmt.Sprintf("dev/disk/by-path/ip-%s-iscsi-%s-lun-7", portal, iqn)] = "-> ../../" + name
	}
	if n.over {
		files["sys/block/"+name+"/holders/dm-0"] = ""
		files["sys/block/dm-0/slaves/"+name] = ""
	}
	scsitest.Add(n.t, n.host, files)
	if n.over && n.sessions == 1 {
		scsitest.Add(n.t, n.host, map[string]string{"sys/block/dm-0/dm/uuid": "mpath-1", "dev/dm-0": ""})
	}
}

func (n *node) request(s v1.ISCSIVolumeSource) *volume.Request {
	s.IQN, s.Lun = iqn, 7
	if s.TargetPortal == "" {
		s.TargetPortal = "10.0.0.1"
	}
	return &volume.Request{
		Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", UID: "uid"}}, Dir: filepath.Join(n.cfg.Root, "pods/uid/volumes/kubernetes.io~iscsi/v"),
		Volume: &v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{ISCSI: &s}},
	}
}

func (n *node) deleted() []string {
	var out []string
	for _, path := range glob(n.host.Path("sys/block/*/device/delete")) {
		if b, err := os.ReadFile(path); err == nil && string(b) == "1" {
			out = append(out, filepath.Base(filepath.Dir(filepath.Dir(path))))
		}
	}
	return out
}

// Covers: node.disks
func TestSetUp(t *testing.T) {
	for name, tc := range map[string]struct {
		edit   func(*node)
		src    v1.ISCSIVolumeSource
		device string
		gone   []string
	}{
		"one portal":        {device: "dev/disk/by-path/ip-10.0.0.1:3260-iscsi-" + iqn + "-lun-7", gone: []string{"sdb"}},
		"no udev":           {edit: func(n *node) { n.udev = false }, device: "dev/sdb", gone: []string{"sdb"}},
		"a session is open": {edit: func(n *node) { n.session("10.0.0.1:3260", "default") }, device: "dev/disk/by-path/ip-10.0.0.1:3260-iscsi-" + iqn + "-lun-7", gone: []string{"sdb"}},
		"the first portal is away": {edit: func(n *node) { n.refused = "10.0.0.1" }, src: v1.ISCSIVolumeSource{Portals: []string{"10.0.0.2"}},
			device: "dev/disk/by-path/ip-10.0.0.2:3260-iscsi-" + iqn + "-lun-7", gone: []string{"sdb"}},
		"two portals": {src: v1.ISCSIVolumeSource{Portals: []string{"10.0.0.2"}},
			device: "dev/disk/by-path/ip-10.0.0.1:3260-iscsi-" + iqn + "-lun-7", gone: []string{"sdb", "sdc"}},
		"two portals and multipathd": {edit: func(n *node) { n.over = true }, src: v1.ISCSIVolumeSource{Portals: []string{"10.0.0.2"}}, device: "dev/dm-0", gone: []string{"sdb", "sdc"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if tc.edit != nil {
				tc.edit(n)
			}
			r := n.request(tc.src)
			m, err := n.SetUp(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			list, _ := n.mounter.List()
			if len(list) != 2 || list[0].Device != n.host.Path(tc.device) || list[1].Path != m.Path || m.Path != r.Dir {
				t.Errorf("mounted: %v, want %s for the node and the pod", list, tc.device)
			}
			if len(n.programs.Ran()) == 0 {
				t.Error("nothing ran")
			}
			if err := n.TearDown(t.Context(), r.Dir); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.gone, n.deleted()); d != "" {
				t.Errorf("disks that are gone (-want +got):\n%s", d)
			}
			if ran := strings.Join(n.programs.Ran(), "\n"); !strings.Contains(ran, "--logout") || !strings.Contains(ran, "-o delete") {
				t.Errorf("at the end ran:\n%s", ran)
			}
			if list, _ := n.mounter.List(); len(list) > 0 {
				t.Errorf("still mounted: %v", list)
			}
		})
	}
}

// What cannot be done says why and what helps, and shows no password.
func TestSetUpFails(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(*node)
		src  v1.ISCSIVolumeSource
		want string
	}{
		"no iscsiadm": {edit: func(n *node) {
			n.programs.Answer = func(string) (string, error) { return "", exec.ErrExecutableNotFound }
		}, want: "executable file not found in $PATH: iSCSI volumes need iscsiadm on the node (package open-iscsi) and its service iscsid"},
		"the portal is away": {edit: func(n *node) { n.refused = "10.0.0.1" }, want: "failed to get any path for iscsi disk, last err seen:\niscsi: failed to sendtargets to portal 10.0.0.1:3260 output: cannot make connection, err "},
		"the login fails": {edit: func(n *node) {
			n.programs.Answer = func(argv string) (string, error) {
				if strings.HasSuffix(argv, "--login") {
					return "authorization failure", scsitest.Exit(24)
				}
				return "", nil
			}
		}, src: v1.ISCSIVolumeSource{SessionCHAPAuth: true, SecretRef: &v1.LocalObjectReference{Name: "chap"}}, want: "iscsi: failed to attach disk: Error: output: authorization failure, err "},
		"no secret":      {src: v1.ISCSIVolumeSource{SessionCHAPAuth: true}, want: "iscsi: CHAP is asked for without a secret: set secretRef"},
		"another secret": {src: v1.ISCSIVolumeSource{SessionCHAPAuth: true, SecretRef: &v1.LocalObjectReference{Name: "x"}}, want: "couldn't get secret ns/x error: not found"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if tc.edit != nil {
				tc.edit(n)
			}
			_, err := n.SetUp(t.Context(), n.request(tc.src))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hidden") {
				t.Fatalf("%v, want %s", err, tc.want)
			}
			n.programs.Ran()
			// Nothing is left of it once the pod has gone.
			if name != "no iscsiadm" {
				n.programs.Answer = nil
			}
			if err := n.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(filepath.Join(n.cfg.Root, "plugins", kind)); len(left) > 0 {
				t.Errorf("still noted: %v", left)
			}
		})
	}
}

// After the node has booted a name that was noted may be another disk's, which stays.
func TestOtherDisksStay(t *testing.T) {
	n := newNode(t)
	n.udev = false
	r := n.request(v1.ISCSIVolumeSource{})
	if _, err := n.SetUp(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	n.mounter.MountPoints = nil
	for _, dir := range glob(n.host.Path("sys/class/iscsi_session/*")) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if gone := n.deleted(); gone != nil {
		t.Errorf("%v are gone", gone)
	}
	if left, _ := os.ReadDir(filepath.Join(n.cfg.Root, "plugins", kind)); len(left) > 0 {
		t.Errorf("still noted: %v", left)
	}
}

// The disk that does not appear is said to be missing, and CHAP is told of by its keys.
func TestDiskDoesNotAppear(t *testing.T) {
	n := newNode(t)
	n.cfg.Appear = 10 * time.Millisecond
	r := n.request(v1.ISCSIVolumeSource{SessionCHAPAuth: true, SecretRef: &v1.LocalObjectReference{Name: "chap"}})
	r.Volume.ISCSI.Lun = 8
	_, err := n.SetUp(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "could not attach disk: Timeout after 10ms: ip-10.0.0.1:3260-iscsi-"+iqn+"-lun-8 does not appear") {
		t.Errorf("%v", err)
	}
	if ran := strings.Join(n.programs.Ran(), "\n"); !strings.Contains(ran, "-n node.session.auth.password -v hidden") {
		t.Errorf("CHAP was not set:\n%s", ran)
	}
	if b, err := os.ReadFile(glob(filepath.Join(n.cfg.Root, "plugins", kind, "*", "disk.json"))[0]); err != nil || strings.Contains(string(b), "hidden") {
		t.Errorf("what is noted has the password: %s, %v", b, err)
	}
}
