package setup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"skiff/cluster/config"
)

func TestKubeletConfigDoc(t *testing.T) {
	cluster := config.NewInit(config.Facts{}).Cluster
	for _, tt := range []struct {
		name, given string
		key         string
		want        any
	}{
		{"the cluster's DNS", "", "clusterDNS", []any{"10.96.0.10"}},
		{"what was given stays", "clusterDomain: a.b", "clusterDomain", "a.b"},
		{"a machine with swap", "", "failSwapOn", false},
		{"a machine that is to have none", "failSwapOn: true", "failSwapOn", true},
		{"thresholds that fit big disks", "", "evictionHard", map[string]any{
			"memory.available": "100Mi", "nodefs.available": "5%", "nodefs.inodesFree": "5%", "imagefs.available": "5%", "imagefs.inodesFree": "5%"}},
		{"thresholds that were given", "evictionHard: {nodefs.available: 20%}", "evictionHard", map[string]any{"nodefs.available": "20%"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := kubeletConfigDoc(&cluster, []byte(tt.given))
			if err != nil {
				t.Fatal(err)
			}
			var doc map[string]any
			if err := yaml.Unmarshal(b, &doc); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, doc[tt.key]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.key, diff)
			}
		})
	}
}
