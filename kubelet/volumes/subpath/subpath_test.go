package subpath

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/mount-utils"
)

// Covers: node.subpath
func TestPrepare(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	outside := t.TempDir()
	cases := map[string]struct {
		plant   func(dir string) error
		path    string
		wantErr bool
	}{
		"folder is made":          {path: "x/y"},
		"link inside the volume":  {plant: func(d string) error { return os.Symlink("real", filepath.Join(d, "l")) }, path: "l"},
		"link to the host":        {plant: func(d string) error { return os.Symlink("/etc", filepath.Join(d, "l")) }, path: "l", wantErr: true},
		"link upwards":            {plant: func(d string) error { return os.Symlink("../..", filepath.Join(d, "l")) }, path: "l/etc", wantErr: true},
		"new folder below a link": {plant: func(d string) error { return os.Symlink(outside, filepath.Join(d, "l")) }, path: "l/skiff-new", wantErr: true},
		"dots":                    {path: "../etc", wantErr: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			volume, pod := t.TempDir(), t.TempDir()
			m := mount.NewWithoutSystemd("")
			if err := os.MkdirAll(filepath.Join(volume, "real"), 0o755); err != nil {
				t.Fatal(err)
			}
			if tc.plant != nil {
				if err := tc.plant(volume); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Prepare(m, Request{VolumePath: volume, SubPath: tc.path, PodDir: pod, VolumeName: "v", Container: "c"})
			if (err != nil) != tc.wantErr {
				t.Fatalf("error %v, want one: %v", err, tc.wantErr)
			}
			if err == nil && !strings.HasPrefix(got, pod) {
				t.Errorf("mounted at %s", got)
			}
			if err := CleanPod(m, pod); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(Root(pod)); !os.IsNotExist(err) {
				t.Errorf("left: %v", err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(outside, "skiff-new")); err == nil {
		t.Error("a folder was made outside the volume")
	}
}
