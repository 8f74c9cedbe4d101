package csi_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"golang.org/x/sys/unix"

	"skiff/testdata/csidriver/hostpath"
)

// TestDriverSanity holds the driver that clusters are tested with to the CSI
// specification, by the suite of its keepers.
func TestDriverSanity(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	// An address holds few characters.
	dir, err := os.MkdirTemp("", "csi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, name := range []string{"mount", "stage"} {
			_ = unix.Unmount(filepath.Join(dir, name), unix.MNT_DETACH) // none, if all is well
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	d, err := hostpath.New(hostpath.Config{Name: "hostpath.csi.skiff.test", Node: "here", Dir: filepath.Join(dir, "volumes"), Capacity: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Serve(ctx, filepath.Join(dir, "csi.sock")); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	cfg := sanity.NewTestConfig()
	cfg.Address = "unix://" + filepath.Join(dir, "csi.sock")
	cfg.TargetPath, cfg.StagingPath = filepath.Join(dir, "mount"), filepath.Join(dir, "stage")
	sanity.Test(t, cfg)
}
