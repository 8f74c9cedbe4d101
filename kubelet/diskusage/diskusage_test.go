package diskusage_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"skiff/kubelet/diskusage"
)

func TestOf(t *testing.T) {
	cases := []struct {
		name string
		make func(t *testing.T, dir string)
		want uint64 // inodes below the folder
	}{
		{"an empty folder", func(*testing.T, string) {}, 0},
		{"a file and a folder", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "a"))
			mkdir(t, filepath.Join(dir, "b"))
		}, 2},
		{"a file with two names counts once", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "a"))
			if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
				t.Fatal(err)
			}
		}, 1},
		{"a link is not followed", func(t *testing.T, dir string) {
			if err := os.Symlink("/", filepath.Join(dir, "a")); err != nil {
				t.Fatal(err)
			}
		}, 1},
		{"what is mounted below is not counted", func(t *testing.T, dir string) {
			at := filepath.Join(dir, "mounted")
			mkdir(t, at)
			if err := unix.Mount("none", at, "tmpfs", 0, ""); err != nil {
				t.Skipf("a mount needs root: %v", err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(at, 0); err != nil {
					t.Error(err)
				}
			})
			write(t, filepath.Join(at, "a"))
		}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			before := diskusage.Of(dir)
			c.make(t, dir)
			if d := cmp.Diff(before.Inodes+c.want, diskusage.Of(dir).Inodes); d != "" {
				t.Errorf("inodes (-want +got):\n%s", d)
			}
		})
	}
	if got := diskusage.Of(filepath.Join(t.TempDir(), "missing")); got != (diskusage.Usage{}) {
		t.Errorf("a missing folder takes %+v", got)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}
