package cri

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// An image's links lead the runtime nowhere on the host, whether it reads the image's
// users or mounts a part of it as a volume.
func TestOpenInRoot(t *testing.T) {
	host, root := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(host, "passwd"), "the host's")
	write(filepath.Join(root, "etc/passwd"), "the image's")
	if err := os.Mkdir(filepath.Join(root, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	up := "../../../../../../../../../.."
	for name, target := range map[string]string{
		"within":   "/etc/passwd",
		"upwards":  up + "/etc/passwd",
		"host":     filepath.Join(host, "passwd"),
		"upward":   up + host + "/passwd",
		"proc":     "/proc/self/root" + host + "/passwd",
		"hostdir":  host,
		"upperdir": up + host,
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"etc/passwd": "the image's", "within": "the image's", "upwards": "the image's", up + "/etc/passwd": "the image's",
		"host": "", "upward": "", "proc": "", "hostdir/passwd": "", "upperdir/passwd": "", "dir": "",
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if f, err := openIn(root, name); err == nil {
				data, err := io.ReadAll(f)
				if err != nil {
					t.Error(err)
				}
				f.Close()
				got = string(data)
			}
			if got != want {
				t.Errorf("read %q, want %q", got, want)
			}
			path, err := openDirIn(root, name)
			if within := err == nil && (path == root || filepath.Dir(path) == root || filepath.Dir(filepath.Dir(path)) == root); err == nil && !within {
				t.Errorf("found at %s, outside of the root", path)
			}
		})
	}
}
