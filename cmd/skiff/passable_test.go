package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPassable(t *testing.T) {
	above := filepath.Join(t.TempDir(), "above")
	root := filepath.Join(above, "root")
	dir := filepath.Join(root, "var/lib/skiff")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := passable(dir, root); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o711, filepath.Join(root, "var"): 0o711, root: 0o711, above: 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	if err := passable(filepath.Join(root, "none"), root); err == nil {
		t.Error("a folder that is not there can be passed through")
	}
}
