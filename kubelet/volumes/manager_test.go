package volumes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/volume"
)

// folders is a kind of volume that is a folder, or fails.
type folders struct{ err error }

func (*folders) Name() string                    { return "test/folder" }
func (*folders) Supports(r *volume.Request) bool { return r.Volume.EmptyDir != nil }
func (f *folders) SetUp(_ context.Context, r *volume.Request) (*volume.Mounted, error) {
	if f.err != nil {
		return nil, f.err
	}
	return &volume.Mounted{Path: r.Dir}, os.MkdirAll(r.Dir, 0o755)
}
func (f *folders) TearDown(_ context.Context, dir string) error { return os.RemoveAll(dir) }

func newManager(t *testing.T, plugins ...volume.Plugin) *Manager {
	t.Helper()
	m, err := New(Config{Client: fake.NewClientset(), PodsDir: t.TempDir(), Mounter: mount.NewFakeMounter(nil), Plugins: plugins})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func podWith(volumes ...string) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "uid"}}
	c := v1.Container{Name: "c"}
	for _, name := range volumes {
		p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
		c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: name, MountPath: "/" + name})
	}
	p.Spec.Containers = []v1.Container{c}
	return p
}

func TestSetUpKeepsWhatWasReady(t *testing.T) {
	noData := errors.New("no data")
	// An Error is an error too: only its cause is told by identity.
	cause := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Cause" }, cmpopts.EquateErrors())
	kind := &folders{}
	m, ctx := newManager(t, kind), context.Background()
	ready := map[string]volume.Mounted{"a": {Path: filepath.Join(m.PodDir("uid"), "volumes", "test~folder", "a")}}
	failure := func(name string, stale bool) *Error {
		return &Error{Volume: name, Message: `MountVolume.SetUp failed for volume "` + name + `" : no data`, Stale: stale, Cause: noData}
	}
	for _, step := range []struct {
		name string
		pod  *v1.Pod
		err  error
		errs []*Error
		want map[string]volume.Mounted
	}{
		{"fails at first", podWith("a"), noData, []*Error{failure("a", false)}, map[string]volume.Mounted{}},
		{"becomes ready", podWith("a"), nil, nil, ready},
		{"cannot be brought up to date", podWith("a"), noData, []*Error{failure("a", true)}, ready},
		{"and another never was ready", podWith("a", "b"), noData, []*Error{failure("a", true), failure("b", false)}, ready},
	} {
		kind.err = step.err
		errs := m.SetUp(ctx, step.pod)
		got := m.Mounted("uid")
		if diff := cmp.Diff(step.errs, errs, cause); diff != "" {
			t.Errorf("%s: errors (-want +got)\n%s", step.name, diff)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: volumes (-want +got)\n%s", step.name, diff)
		}
	}
	if err := m.TearDown(ctx, "uid"); err != nil {
		t.Fatal(err)
	}
	if got := m.Mounted("uid"); len(got) > 0 {
		t.Errorf("after the end there is %v", got)
	}
}
