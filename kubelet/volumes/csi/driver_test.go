package csi_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"

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
		mounts, err := mount.New("").List()
		if err != nil {
			t.Error(err)
		}
		for _, m := range mounts {
			if strings.HasPrefix(m.Path, dir+"/") {
				t.Errorf("left mounted: %s (%v)", m.Path, unix.Unmount(m.Path, unix.MNT_DETACH))
			}
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
