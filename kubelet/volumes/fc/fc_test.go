package fc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/mount-utils"
	"k8s.io/utils/ptr"

	"skiff/kubelet/volumes/scsi/scsitest"
	"skiff/kubelet/volumes/volume"
)

const wwn = "500a0982991b8dc5"

// Covers: node.disks
func TestSetUp(t *testing.T) {
	one := map[string]string{"dev/sda": "", "sys/block/sda/device/delete": "", "sys/block/sda/slaves/": "", "dev/disk/by-path/pci-0000:03:00.0-fc-0x" + wwn + "-lun-2": "-> ../../sda"}
	two := map[string]string{
		"dev/sda": "", "sys/block/sda/device/delete": "", "dev/disk/by-path/pci-0000:03:00.0-fc-0x" + wwn + "-lun-2": "-> ../../sda",
		"dev/sdb": "", "sys/block/sdb/device/delete": "", "dev/disk/by-path/pci-0000:03:00.1-fc-0x" + wwn + "-lun-2": "-> ../../sdb",
	}
	over := map[string]string{
		"dev/dm-0": "", "sys/block/dm-0/dm/uuid": "mpath-1", "sys/block/dm-0/slaves/sda": "", "sys/block/dm-0/slaves/sdb": "",
		"sys/block/sda/holders/dm-0": "", "sys/block/sdb/holders/dm-0": "",
	}
	adapters := map[string]string{"sys/class/scsi_host/host1/scan": "", "sys/class/scsi_host/host2/scan": "", "sys/class/fc_host/host1/": ""}
	byWWN := v1.FCVolumeSource{TargetWWNs: []string{"0", wwn}, Lun: ptr.To[int32](2)}
	for name, tc := range map[string]struct {
		files  []map[string]string
		src    v1.FCVolumeSource
		device string
		gone   []string
		err    string
	}{
		"by port": {files: []map[string]string{one}, src: byWWN, device: "dev/disk/by-path/pci-0000:03:00.0-fc-0x" + wwn + "-lun-2", gone: []string{"sda"}},
		"by its own name": {files: []map[string]string{one, {"dev/disk/by-id/scsi-3600a": "-> ../../sda"}}, src: v1.FCVolumeSource{WWIDs: []string{"3600a"}},
			device: "dev/disk/by-id/scsi-3600a", gone: []string{"sda"}},
		"two ways":                {files: []map[string]string{two}, src: byWWN, device: "dev/disk/by-path/pci-0000:03:00.0-fc-0x" + wwn + "-lun-2", gone: []string{"sda", "sdb"}},
		"two ways and multipathd": {files: []map[string]string{two, over}, src: byWWN, device: "dev/dm-0", gone: []string{"sda", "sdb"}},
		"another unit":            {files: []map[string]string{one, adapters}, src: v1.FCVolumeSource{TargetWWNs: []string{wwn}, Lun: ptr.To[int32](22)}, err: "no fc disk found: of 2 adapters 2 were asked"},
		"no adapter":              {src: byWWN, err: "no fc disk found: the node has no Fibre Channel adapter"},
		"no name":                 {src: v1.FCVolumeSource{TargetWWNs: []string{wwn}}, err: "fc: no WWNs or WWIDs found"},
	} {
		t.Run(name, func(t *testing.T) {
			host := scsitest.Tree(t, nil)
			for _, files := range tc.files {
				scsitest.Add(t, host, files)
			}
			var programs scsitest.Programs
			programs.Answer = func(argv string) (string, error) {
				if strings.HasPrefix(argv, "blkid") {
					return "TYPE=ext4\n", nil
				}
				return "", nil
			}
			mounter := mount.NewFakeMounter(nil)
			p := New(Config{Root: t.TempDir(), Mounter: mounter, Exec: programs.Exec(), Host: host, Appear: time.Millisecond})
			r := &volume.Request{
				Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "uid"}}, Volume: &v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{FC: &tc.src}},
				Dir: filepath.Join(p.cfg.Root, "pods/uid/volumes/kubernetes.io~fc/v"),
			}
			_, err := p.SetUp(t.Context(), r)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if list, _ := mounter.List(); len(list) != 2 || list[0].Device != host.Path(tc.device) {
				t.Errorf("mounted: %v, want %s", list, tc.device)
			}
			if err := p.TearDown(t.Context(), r.Dir); err != nil {
				t.Fatal(err)
			}
			var gone []string
			for _, name := range []string{"sda", "sdb"} {
				if b, err := os.ReadFile(host.Path("sys/block", name, "device/delete")); err == nil && string(b) == "1" {
					gone = append(gone, name)
				}
			}
			if d := cmp.Diff(tc.gone, gone); d != "" {
				t.Errorf("disks that are gone (-want +got):\n%s", d)
			}
		})
	}
}

// Adapters look for a disk that is not known yet.
func TestRescan(t *testing.T) {
	host := scsitest.Tree(t, map[string]string{"sys/class/scsi_host/host1/scan": "", "sys/class/scsi_host/host2/scan": "", "sys/class/fc_host/host1/": ""})
	p := New(Config{Root: t.TempDir(), Host: host, Appear: time.Millisecond})
	if _, err := p.attach(t.Context(), &target{WWIDs: []string{"x"}}, nil); err == nil {
		t.Fatal("a disk that is not there was found")
	}
	for _, h := range []string{"host1", "host2"} {
		if b, err := os.ReadFile(host.Path("sys/class/scsi_host", h, "scan")); err != nil || string(b) != "- - -" {
			t.Errorf("%s was told %q, %v", h, b, err)
		}
	}
}
