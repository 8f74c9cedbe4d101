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
	if err := Write(from, snapshot, out); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive has mode %v, %v", info.Mode(), err)
	}
	has, err := Read(to, out)
	if err != nil || !has {
		t.Fatalf("read: database %v, %v", has, err)
	}
	for path, want := range map[string]string{filepath.Join(to.PKI(), "ca.key"): "key", to.NodeConfig(): "node", to.Database(): "database"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	if _, err := Read(to, out); err == nil || !strings.Contains(err.Error(), "a node was set up here") {
		t.Errorf("a second restore: %v", err)
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
			if _, err := Read(at(t), in); err == nil || !strings.Contains(err.Error(), "no backup of skiff") {
				t.Errorf("got %v", err)
			}
		})
	}
}
