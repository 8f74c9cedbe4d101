package cri

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTransfersOfBothCgroupVersions(t *testing.T) {
	want := []transfer{{"8:0", "Read", 4096, 1}, {"8:0", "Write", 8192, 3}}
	for _, c := range []struct {
		name string
		got  []transfer
	}{
		{"v2", parseIOStat("8:0 rbytes=4096 wbytes=8192 rios=1 wios=3 dbytes=0 dios=0\n7:0 \n")},
		{"v1", parseBlkio("8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Total 12288\nTotal 12288\n", "8:0 Read 1\n8:0 Write 3\n8:0 Total 4\nTotal 4\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(want, c.got, cmp.AllowUnexported(transfer{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
