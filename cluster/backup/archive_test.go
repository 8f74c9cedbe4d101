package backup

import (
	"archive/tar"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skiff/cluster/layout"
)

func at(t *testing.T) layout.Layout {
	t.Helper()
	l, err := layout.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestArchiveHoldsTheNode(t *testing.T) {
	from, to := at(t), at(t)
	put(t, filepath.Join(from.PKI(), "ca.key"), "key")
	put(t, from.NodeConfig(), "node")
	snapshot := filepath.Join(t.TempDir(), "snap.db")
	put(t, snapshot, "database")
	out := filepath.Join(t.TempDir(), "backup.tar.gz")
	keys := filepath.Join(t.TempDir(), "keys", "encryption.yaml")
	put(t, keys, "keys")
	if err := Write(from, snapshot, []string{keys}, out); err != nil {
		t.Fatal(err)
	}
	if err := Write(from, snapshot, []string{keys + ".missing"}, out+"2"); err == nil || !strings.Contains(err.Error(), "the configuration names") {
		t.Errorf("without a file that is named: %v", err)
	}
	// A clean machine has none of it.
	if err := os.RemoveAll(filepath.Dir(keys)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive has mode %v, %v", info.Mode(), err)
	}
	// What is left of a database that somebody took away.
	put(t, to.Database()+"-wal", "old log")
	put(t, to.Database()+"-shm", "its index")
	if err := Read(to, out); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(to.Database() + suffix); !os.IsNotExist(err) {
			t.Errorf("state.db%s of another database is still there: %v", suffix, err)
		}
	}
	for path, want := range map[string]string{filepath.Join(to.PKI(), "ca.key"): "key", to.NodeConfig(): "node", to.Database(): "database", keys: "keys"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if err := Read(to, out); err == nil || !strings.Contains(err.Error(), "a node was set up here") {
		t.Errorf("a second restore: %v", err)
	}
	if err := Undo(to, out); err != nil {
		t.Fatal(err)
	}
	if err := Read(to, out); err != nil {
		t.Errorf("a restore after one that was undone: %v", err)
	}
}

func TestReadRefusesForeignNames(t *testing.T) {
	for _, name := range []string{"../etc/passwd", "/etc/passwd", "kubernetes/../../x", "other/file"} {
		t.Run(name, func(t *testing.T) {
			in := filepath.Join(t.TempDir(), "bad.tar.gz")
			f, err := os.Create(in)
			if err != nil {
				t.Fatal(err)
			}
			z := gzip.NewWriter(f)
			w := tar.NewWriter(z)
			if err := w.WriteHeader(&tar.Header{Name: name, Size: 1, Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			w.Close()
			z.Close()
			f.Close()
			if err := Read(at(t), in); err == nil || !strings.Contains(err.Error(), "no backup of skiff") {
				t.Errorf("got %v", err)
			}
		})
	}
}
