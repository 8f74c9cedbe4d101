package logs

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const head = "2026-11-27T16:55:12.826000000Z stdout "

func TestTail(t *testing.T) {
	var many, long strings.Builder
	for i := range 1000 {
		many.WriteString(head + "F " + strconv.Itoa(i) + "\n")
	}
	// A line that has not ended, in parts as the shim writes them.
	for range 20 {
		long.WriteString(head + "P " + strings.Repeat("y", maxRecord) + "\n")
	}
	for _, tc := range []struct {
		name, log, want string
	}{
		{"nothing", "", ""},
		{"few lines", head + "F a b\n" + head + "F c\n", "a b\nc\n"},
		{"a part", head + "P a\n" + head + "P b\n", "ab"},
		{"the last of many", many.String(), "997\n998\n999\n"},
		{"empty lines", strings.Repeat(head+"F \n", 1000), "\n\n\n"},
		{"too long", head + "F " + strings.Repeat("x", 50) + "end\n", strings.Repeat("x", 16) + "end\n"},
		{"without an end", long.String(), strings.Repeat("y", 20)},
		{"without an end and a full last part", long.String() + head + "P \n", strings.Repeat("y", 20)},
		{"a record of another runtime", head + "F " + strings.Repeat("z ", 100<<10), strings.Repeat("z ", 10)},
		{"no log", "garbage\n", ""},
		{"not text", head + "F \xff\xfe\n", "\xff\xfe\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "0.log")
			if err := os.WriteFile(path, []byte(tc.log), 0o600); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, Tail(path, 3, 20)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a container has put in the place of a file is not read.
func TestOpenOnlyFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for name, make := range map[string]func(path string) error{
		"link":   func(path string) error { return os.Symlink(file, path) },
		"pipe":   func(path string) error { return unix.Mkfifo(path, 0o600) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"device": func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			if errors.Is(err, unix.EPERM) {
				continue // devices need root
			}
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: error %v, want %v", name, err, ErrNotRegular)
		}
		if text := Tail(path, 80, 2048); text != "" {
			t.Errorf("%s: tail %q, want nothing", name, text)
		}
	}
}
