package localvolume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestKeeper(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{
		Make: "pvc-a", Reclaim: "pvc-b,../x,pvc-gone",
	}}}
	if err := os.MkdirAll(filepath.Join(dir, "pvc-b", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "pvc-b", "link")); err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset(node)
	k, err := New(Config{Client: client, NodeName: "n", Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := k.keep(ctx, node); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "pvc-a"))
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("made volume: %v %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "pvc-b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the volume is still there: %v", err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a link was followed: %v", err)
	}
	got, err := client.CoreV1().Nodes().Get(ctx, "n", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Annotations[Directory] != dir {
		t.Errorf("the node says its volumes are in %q", got.Annotations[Directory])
	}
	if got.Annotations[Reclaimed] != "pvc-b,pvc-gone" {
		t.Errorf("answer %q", got.Annotations[Reclaimed])
	}
}

func TestDirectoryOf(t *testing.T) {
	for said, want := range map[string]string{"": "/default", "/own/": "/own", "relative": "/default", "/": "/default"} {
		node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{Directory: said}}}
		if got := DirectoryOf(node, "/default"); got != want {
			t.Errorf("a node that says %q has its volumes in %s, want %s", said, got, want)
		}
	}
}
