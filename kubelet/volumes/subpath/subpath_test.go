package subpath

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"
)

// A subPath stays in its volume whatever links its users plant (CVE-2017-1002101).
//
// Covers: node.subpath
func TestPrepare(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	// In place of the host: should a mount ever get here, it is not a folder that
	// the machine needs.
	outside := t.TempDir()
	if err := os.Mkdir(filepath.Join(outside, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		plant   func(dir string) error
		path    string
		wantErr bool
	}{
		"folder is made":          {path: "x/y"},
		"link inside the volume":  {plant: func(d string) error { return os.Symlink("real", filepath.Join(d, "l")) }, path: "l"},
		"link to the host":        {plant: func(d string) error { return os.Symlink(outside, filepath.Join(d, "l")) }, path: "l", wantErr: true},
		"link upwards":            {plant: func(d string) error { return os.Symlink("../"+filepath.Base(outside), filepath.Join(d, "l")) }, path: "l/etc", wantErr: true},
		"new folder below a link": {plant: func(d string) error { return os.Symlink(outside, filepath.Join(d, "l")) }, path: "l/skiff-new", wantErr: true},
		"dots":                    {path: "../etc", wantErr: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			volume, pod := filepath.Join(filepath.Dir(outside), strings.ReplaceAll(t.Name(), "/", "-")), t.TempDir()
			m := mount.NewWithoutSystemd("")
			unmountAtEnd(t, m, pod)
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

// unmountAtEnd takes a pod's mounts away before its folder is removed, however the
// test ends: a removal through a mount empties what is mounted.
func unmountAtEnd(t *testing.T, m mount.Interface, pod string) {
	t.Cleanup(func() {
		if err := CleanPod(m, pod); err != nil {
			t.Errorf("the mounts of %s are left: %v", pod, err)
		}
	})
}

// A folder and a link to the host change places all the time while the path is
// looked up: what gets mounted is the folder, or nothing (CVE-2021-25741).
//
// Covers: node.subpath
func TestPrepareWhileLinksAreExchanged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	volume, host := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{filepath.Join(volume, "a"): "volume", host: "host"} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "whose"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, b := filepath.Join(volume, "a"), filepath.Join(volume, "b")
	if err := os.Symlink(host, b); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	var exchanges atomic.Int64
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				stopped <- err
				return
			}
			exchanges.Add(1)
		}
	}()
	m := mount.NewWithoutSystemd("")
	mounted := 0
	for i := 0; i < 200 || mounted == 0 && i < 5000; i++ {
		pod := t.TempDir()
		unmountAtEnd(t, m, pod)
		at, err := Prepare(m, Request{VolumePath: volume, SubPath: "a", PodDir: pod, VolumeName: "v", Container: "c"})
		if err == nil {
			mounted++
			whose, err := os.ReadFile(filepath.Join(at, "whose"))
			if err != nil || string(whose) != "volume" {
				t.Errorf("mounted the %s's folder, %v", whose, err)
			}
		}
		if err := CleanPod(m, pod); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if mounted == 0 || exchanges.Load() < 200 {
		t.Errorf("%d mounts and %d exchanges are no race", mounted, exchanges.Load())
	}
}
