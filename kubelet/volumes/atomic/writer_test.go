package atomic

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.Name()[0] == '.' {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			out[e.Name()] = "folder"
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(data)
	}
	return out
}

// Covers: node.volumes
func TestWriteReplacesTheWholeSet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	steps := []struct {
		name  string
		files map[string]File
		want  map[string]string
	}{
		{"first", map[string]File{"a": {Data: []byte("1"), Mode: 0o644}, "d/e": {Data: []byte("2"), Mode: 0o600}}, map[string]string{"a": "1", "d": "folder"}},
		{"changed and gone", map[string]File{"a": {Data: []byte("3"), Mode: 0o644}}, map[string]string{"a": "3"}},
		{"empty", map[string]File{}, map[string]string{}},
	}
	for _, s := range steps {
		if err := Write(dir, s.files, nil); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if diff := cmp.Diff(s.want, read(t, dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("old sets are left: %v", entries)
	}
}

func TestWriteLeavesAnEqualSetAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	files := map[string]File{"a": {Data: []byte("1"), Mode: 0o644}}
	var links []string
	for range 2 {
		if err := Write(dir, files, nil); err != nil {
			t.Fatal(err)
		}
		link, err := os.Readlink(filepath.Join(dir, "..data"))
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, link)
	}
	if links[0] != links[1] {
		t.Errorf("an equal set was written again: %v", links)
	}
}

func TestWriteRefusesPathsThatLeave(t *testing.T) {
	for _, name := range []string{"../a", "/a", "a/../../b", "", "..a"} {
		if err := Write(t.TempDir(), map[string]File{name: {}}, nil); err == nil {
			t.Errorf("path %q was taken", name)
		}
	}
}

// What links a container made of the files and folders of its volume, the next
// write removes or replaces them and never what they point at (CVE-2017-1002102).
//
// Covers: node.volumes
func TestWriteLeavesWhatPlantedLinksPointAt(t *testing.T) {
	for _, name := range []string{"..data", "..data_tmp", "file", "other", "folder"} {
		t.Run(name, func(t *testing.T) {
			dir, host := t.TempDir(), t.TempDir()
			precious := filepath.Join(host, "precious")
			if err := os.WriteFile(precious, []byte("host"), 0o600); err != nil {
				t.Fatal(err)
			}
			files := map[string]File{"file": {Data: []byte("1"), Mode: 0o644}, "folder/file": {Data: []byte("1"), Mode: 0o644}}
			if err := Write(dir, files, nil); err != nil {
				t.Fatal(err)
			}
			planted := filepath.Join(dir, name)
			if err := os.RemoveAll(planted); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(host, planted); err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{"2", "3"} {
				files["file"] = File{Data: []byte(text), Mode: 0o644}
				if err := Write(dir, files, nil); err != nil {
					t.Logf("refused: %v", err)
				}
			}
			entries, err := os.ReadDir(host)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(precious); err != nil || string(b) != "host" || len(entries) != 1 {
				t.Errorf("the host's file is %q, %v, beside %v", b, err, entries)
			}
		})
	}
}
