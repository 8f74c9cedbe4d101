package cgroups

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOOMGroups(t *testing.T) {
	dir := t.TempDir()
	if OOMGroups(dir) {
		t.Error("a hierarchy without cgroups can end them as a whole")
	}
	if err := os.Mkdir(filepath.Join(dir, "a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if OOMGroups(dir) {
		t.Error("one that counts no memory can")
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "memory.oom.group"), []byte("0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !OOMGroups(dir) {
		t.Error("one that counts memory cannot")
	}
}
