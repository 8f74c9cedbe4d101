package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skiff/scheduler/config"
	"skiff/scheduler/plugins/builtin"
)

func TestDefaultPoints(t *testing.T) {
	c := config.Default()
	p, weights, err := config.Points(&c.Profiles[0], builtin.Entries())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions", "NodeVolumeLimits",
		"VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity", "DynamicResources"}
	if d := cmp.Diff(want, p.Filter); d != "" {
		t.Errorf("filter plugins (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"TaintToleration", "NodeAffinity", "NodeResourcesFit", "PodTopologySpread", "InterPodAffinity", "NodeResourcesBalancedAllocation", "ImageLocality"}, p.Score); d != "" {
		t.Errorf("score plugins (-want +got):\n%s", d)
	}
	if weights["TaintToleration"] != 3 || weights["PodTopologySpread"] != 2 || weights["NodeResourcesFit"] != 1 {
		t.Errorf("weights %v", weights)
	}
}

func TestLoad(t *testing.T) {
	const head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
	for _, tt := range []struct{ name, text, want string }{
		{"empty", head, ""},
		{"unknown field", head + "nope: 1\n", `unknown field "nope"`},
		{"unknown field in arguments", head + "profiles:\n- pluginConfig:\n  - name: NodeResourcesFit\n    args: {nope: 1}\n", `unknown field "nope"`},
		{"two profiles of one name", head + "profiles:\n- schedulerName: a\n- schedulerName: a\n", `profiles[1].schedulerName: Duplicate value: "a"`},
		{"percentage", head + "percentageOfNodesToScore: 101\n", "not in valid range [0-100]"},
		{"other kind", "apiVersion: kubescheduler.config.k8s.io/v1\nkind: NodeAffinityArgs\n", "couldn't decode as KubeSchedulerConfiguration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load([]byte(tt.text))
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
