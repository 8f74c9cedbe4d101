package userns

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
)

func pod(uid types.UID, hostUsers *bool) *v1.Pod {
	p := &v1.Pod{}
	p.UID, p.Spec.HostUsers = uid, hostUsers
	return p
}

func allocator(t *testing.T, root string, pods ...types.UID) *Allocator {
	t.Helper()
	a, err := New(Config{PodDir: func(uid types.UID) string { return filepath.Join(root, string(uid)) }, Pods: 110}, pods)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func first(t *testing.T, a *Allocator, uid types.UID) uint32 {
	t.Helper()
	u, err := a.For(pod(uid, ptr.To(false)))
	if err != nil {
		t.Fatal(err)
	}
	if u.Mode != runtimeapi.NamespaceMode_POD || len(u.Uids) != 1 || len(u.Gids) != 1 || u.Uids[0].Length != 65536 || u.Uids[0].ContainerId != 0 || u.Uids[0].HostId != u.Gids[0].HostId {
		t.Fatalf("the namespace of %s is %v", uid, u)
	}
	return u.Uids[0].HostId
}

func TestHostUsers(t *testing.T) {
	a := allocator(t, t.TempDir())
	for _, hostUsers := range []*bool{nil, ptr.To(true)} {
		u, err := a.For(pod("a", hostUsers))
		if err != nil || u.Mode != runtimeapi.NamespaceMode_NODE || len(u.Uids) != 0 {
			t.Errorf("a pod of the host's users has %v, %v", u, err)
		}
	}
}

// Ranges do not overlap, stay the same, outlive the kubelet and are used again.
func TestRanges(t *testing.T) {
	root := t.TempDir()
	a := allocator(t, root)
	one, two := first(t, a, "one"), first(t, a, "two")
	if one < 65536 || two < one+65536 {
		t.Errorf("the ranges begin at %d and %d", one, two)
	}
	if again := first(t, a, "one"); again != one {
		t.Errorf("the range of a pod moved from %d to %d", one, again)
	}
	b := allocator(t, root, "one", "two", "with none")
	if again := first(t, b, "two"); again != two {
		t.Errorf("a new kubelet moved a pod from %d to %d", two, again)
	}
	if three := first(t, b, "three"); three == one || three == two {
		t.Errorf("a new kubelet gave the range at %d away again", three)
	}
	b.Release("one")
	if four := first(t, b, "four"); four != one {
		t.Errorf("a range that was given back is at %d, the next one at %d", one, four)
	}
}

func TestRefused(t *testing.T) {
	for _, length := range []int64{1, 65537, -65536, 1 << 31} {
		if _, err := New(Config{Length: length, Pods: 110}, nil); err == nil {
			t.Errorf("ranges of %d are accepted", length)
		}
	}
	root := t.TempDir()
	for name, content := range map[types.UID]string{"torn": "{", "host": `{"uidMappings":[{"hostId":0,"length":65536}]}`} {
		dir := filepath.Join(root, string(name))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{PodDir: func(types.UID) string { return dir }, Pods: 110}, []types.UID{name}); err == nil {
			t.Errorf("a file of %q is accepted", content)
		}
	}
}
