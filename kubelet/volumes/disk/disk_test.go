package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/mount-utils"
	"k8s.io/utils/ptr"

	"skiff/kubelet/volumes/scsi/scsitest"
	"skiff/kubelet/volumes/volume"
)

// node has disks that are files, and notes what comes and goes.
type node struct {
	*Disks[string]
	t        *testing.T
	mounter  *mount.FakeMounter
	programs scsitest.Programs
	events   []string
	fail     error
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, mounter: mount.NewFakeMounter(nil)}
	root := t.TempDir()
	// Nothing is on the disks.
	n.programs.Answer = func(argv string) (string, error) {
		if strings.HasPrefix(argv, "blkid") {
			return "", scsitest.Exit(2)
		}
		return "", nil
	}
	n.begin(root)
	return n
}

// begin is the kubelet's start.
func (n *node) begin(root string) {
	n.Disks = &Disks[string]{
		Root: filepath.Join(root, "plugins/kind"), Pods: filepath.Join(root, "pods"), Mounter: n.mounter, Exec: n.programs.Exec(),
		Attach: func(_ context.Context, name *string, _ map[string]string) (string, error) {
			if n.fail != nil {
				return "", n.fail
			}
			n.events = append(n.events, "attach "+*name)
			device := filepath.Join(root, *name)
			return device, os.WriteFile(device, nil, 0o600)
		},
		Detach: func(_ context.Context, name *string, others []string) error {
			n.events = append(n.events, strings.TrimSpace("detach "+*name+" "+strings.Join(others, " ")))
			return os.RemoveAll(filepath.Join(root, *name))
		},
	}
}

func (n *node) request(pod string, block bool) *volume.Request {
	r := &volume.Request{
		Pod:    &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(pod)}},
		Volume: &v1.Volume{Name: "v"},
		Dir:    filepath.Join(n.Pods, pod, "volumes", "kind", "v"),
	}
	if block {
		r.PV = &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{VolumeMode: ptr.To(v1.PersistentVolumeBlock)}}
		r.Dir = filepath.Join(n.Pods, pod, "volumeDevices", "kind", "v")
	}
	return r
}

func (n *node) setUp(pod string, block bool, d Disk[string]) *volume.Mounted {
	n.t.Helper()
	m, err := n.SetUp(n.t.Context(), n.request(pod, block), d, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

func (n *node) tearDown(pod string, block bool) {
	n.t.Helper()
	if err := n.TearDown(n.t.Context(), n.request(pod, block).Dir); err != nil {
		n.t.Fatal(err)
	}
}

// happened are the events since the last call.
func (n *node) happened(want ...string) {
	n.t.Helper()
	if d := cmp.Diff(want, n.events); d != "" {
		n.t.Errorf("events (-want +got):\n%s", d)
	}
	n.events = nil
}

func (n *node) clean() {
	n.t.Helper()
	if list, _ := n.mounter.List(); len(list) != 0 {
		n.t.Errorf("still mounted: %v", list)
	}
	if left, _ := os.ReadDir(n.Root); len(left) != 0 {
		n.t.Errorf("still noted: %v", left)
	}
}

func one(edit ...func(*Disk[string])) Disk[string] {
	d := Disk[string]{Key: "host/one", About: "one"}
	for _, f := range edit {
		f(&d)
	}
	return d
}

// Two pods share what is mounted once; with the last of them the disk goes.
//
// Covers: node.disks
func TestShared(t *testing.T) {
	n := newNode(t)
	first := n.setUp("a", false, one())
	if first.Path != n.request("a", false).Dir || first.ReadOnly {
		t.Errorf("%+v", first)
	}
	second := n.setUp("b", false, one(func(d *Disk[string]) { d.ReadOnly = true }))
	if !second.ReadOnly {
		t.Error("b may write")
	}
	if made := cmp.Diff([]string{"mkfs.ext4"}, []string{strings.Fields(n.programs.Ran()[1])[0]}); made != "" {
		t.Error(made)
	}
	n.happened("attach one", "attach one")
	n.setUp("a", false, one())
	n.happened() // it is mounted
	n.tearDown("a", false)
	n.happened()
	n.tearDown("b", false)
	n.happened("detach one")
	n.clean()
	n.tearDown("b", false)
	n.happened()
}

// A disk that stays is told of where another one goes.
func TestOthersStay(t *testing.T) {
	n := newNode(t)
	n.setUp("a", false, one())
	n.setUp("b", true, Disk[string]{Key: "two", About: "two"})
	n.happened("attach one", "attach two")
	n.tearDown("a", false)
	n.happened("detach one two")
	n.tearDown("b", true)
	n.happened("detach two")
	n.clean()
}

func TestBlock(t *testing.T) {
	n := newNode(t)
	m := n.setUp("a", true, one())
	if to, err := os.Readlink(n.request("a", true).Dir); err != nil || to != m.Path || !m.Block {
		t.Errorf("the pod has %s, %v, and is told of %+v", to, err, m)
	}
	n.setUp("b", true, one())
	n.setUp("c", false, one())
	if ran := n.programs.Ran(); len(ran) == 0 {
		t.Error("nothing looked at the disk before it was mounted")
	}
	n.events = nil
	n.tearDown("a", true)
	n.tearDown("c", false)
	n.happened()
	n.tearDown("b", true)
	n.happened("detach one")
	n.clean()
}

// What is used is found by what is on the node, also after the kubelet has begun anew.
func TestBeginsAnew(t *testing.T) {
	n := newNode(t)
	n.setUp("a", false, one())
	n.setUp("b", true, Disk[string]{Key: "two", About: "two"})
	n.events = nil
	n.begin(filepath.Dir(n.Pods))
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.happened()
	n.tearDown("a", false)
	n.tearDown("b", true)
	n.happened("detach one two", "detach two")
	n.clean()
}

// Sweep takes away what an ended kubelet has begun for a pod, at whatever step.
func TestSweep(t *testing.T) {
	for name, before := range map[string]func(*node){
		"noted": func(n *node) {
			if err := (note[string]{About: "one"}).write(n.dir("one")); err != nil {
				t.Fatal(err)
			}
		},
		"attached": func(n *node) {
			if _, err := n.attach(t.Context(), Disk[string]{Key: "one", About: "one"}, nil); err != nil {
				t.Fatal(err)
			}
		},
		"mounted": func(n *node) {
			d := Disk[string]{Key: "one", About: "one"}
			device, err := n.attach(t.Context(), d, nil)
			if err == nil {
				err = n.mountGlobally(d, device)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			before(n)
			n.events = nil
			if err := n.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			n.happened("detach one")
			n.clean()
		})
	}
}

// Sweep leaves alone what a pod is about to have.
func TestSweepDoesNotWait(t *testing.T) {
	n := newNode(t)
	if _, err := n.attach(t.Context(), Disk[string]{Key: "one", About: "one"}, nil); err != nil {
		t.Fatal(err)
	}
	n.events = nil
	unlock, ok := n.locks.Try("one")
	if !ok {
		t.Fatal("somebody has the disk")
	}
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.happened()
	unlock()
	if err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.happened("detach one")
}

func TestAttachFails(t *testing.T) {
	n := newNode(t)
	n.fail = errors.New("no route")
	_, err := n.SetUp(t.Context(), n.request("a", false), one(), nil)
	if step := (*volume.StepError)(nil); !errors.As(err, &step) || step.Step != "MountVolume.WaitForAttach" {
		t.Errorf("%v", err)
	}
	_, err = n.SetUp(t.Context(), n.request("a", true), one(), nil)
	if step := (*volume.StepError)(nil); !errors.As(err, &step) || step.Step != "MapVolume.WaitForAttach" {
		t.Errorf("%v", err)
	}
}

func TestFolder(t *testing.T) {
	long := strings.Repeat("x", 300)
	if a, b := folder(long+"a"), folder(long+"b"); a == b || len(a) > 250 || strings.Contains(folder("a/b c"), "/") {
		t.Errorf("%s and %s", a, b)
	}
}
