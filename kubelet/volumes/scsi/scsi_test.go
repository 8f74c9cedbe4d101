package scsi_test

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skiff/kubelet/volumes/scsi"
	"skiff/kubelet/volumes/scsi/scsitest"
)

// disks are two ways to one disk below a multipath device, and a disk with a logical
// volume on it.
func disks(t *testing.T) scsi.Host {
	return scsitest.Tree(t, map[string]string{
		"dev/sda": "", "dev/sdb": "", "dev/sdc": "", "dev/dm-0": "", "dev/dm-1": "",
		"dev/disk/by-path/one": "-> ../../sda", "dev/disk/by-path/two": "-> ../../sdb", "dev/disk/by-path/three": "-> ../../sdc",
		"sys/block/sda/holders/dm-0": "", "sys/block/sda/device/delete": "", "sys/block/sda/slaves/": "",
		"sys/block/sdb/holders/dm-0": "", "sys/block/sdb/device/delete": "", "sys/block/sdb/slaves/": "",
		"sys/block/sdc/holders/dm-1": "", "sys/block/sdc/device/delete": "", "sys/block/sdc/slaves/": "",
		"sys/block/dm-0/dm/uuid": "mpath-3600\n", "sys/block/dm-0/slaves/sda": "", "sys/block/dm-0/slaves/sdb": "",
		"sys/block/dm-1/dm/uuid": "LVM-x\n", "sys/block/dm-1/slaves/sdc": "",
	})
}

func TestMultipath(t *testing.T) {
	h := disks(t)
	for device, want := range map[string]string{
		"dev/disk/by-path/one": "dev/dm-0", "dev/disk/by-path/two": "dev/dm-0", "dev/sda": "dev/dm-0",
		"dev/disk/by-path/three": "dev/disk/by-path/three", "dev/gone": "dev/gone",
	} {
		if got := h.Multipath(h.Path(device)); got != h.Path(want) {
			t.Errorf("%s: %s, want %s", device, got, h.Path(want))
		}
	}
}

func TestRemove(t *testing.T) {
	for device, want := range map[string]struct {
		removed []string
		ran     bool
	}{
		"dev/disk/by-path/three": {removed: []string{"sdc"}},
		"dev/dm-0":               {removed: []string{"sda", "sdb"}, ran: true},
		"dev/gone":               {},
	} {
		h := disks(t)
		var p scsitest.Programs
		if err := h.Remove(t.Context(), p.Exec(), h.Path(device)); err != nil {
			t.Errorf("%s: %v", device, err)
		}
		var removed []string
		for _, name := range []string{"sda", "sdb", "sdc"} {
			if b, err := os.ReadFile(h.Path("sys/block", name, "device/delete")); err != nil || string(b) == "1" {
				removed = append(removed, name)
			}
		}
		if d := cmp.Diff(want.removed, removed); d != "" {
			t.Errorf("%s (-want +got):\n%s", device, d)
		}
		var ran []string
		if want.ran {
			ran = []string{"multipath -f " + h.Path(device)}
		}
		if d := cmp.Diff(ran, p.Ran()); d != "" {
			t.Errorf("%s runs (-want +got):\n%s", device, d)
		}
	}
}
