package devices

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"skiff/kubelet/topology"
)

// near makes devices by the NUMA node that they are near.
func near(at map[string][]int64) map[string]*pluginapi.Device {
	out := map[string]*pluginapi.Device{}
	for id, nodes := range at {
		d := &pluginapi.Device{ID: id, Health: pluginapi.Healthy}
		if len(nodes) > 0 {
			d.Topology = &pluginapi.TopologyInfo{}
			for _, n := range nodes {
				d.Topology.Nodes = append(d.Topology.Nodes, &pluginapi.NUMANode{ID: n})
			}
		}
		out[id] = d
	}
	return out
}

func ids(list ...string) set { return setOf(list) }

func TestChoose(t *testing.T) {
	spread := near(map[string][]int64{"a0": {0}, "b0": {0}, "c1": {1}, "d1": {1}, "e": nil})
	favour := func(favourite ...string) func(available, must set, size int) (set, error) {
		return func(available, _ set, _ int) (set, error) { return ids(favourite...).with(available), nil }
	}
	for _, tc := range []struct {
		name string
		in   demand
		want set
		err  string
	}{
		{"any", demand{needed: 2, free: ids("a0", "b0", "c1")}, ids("a0", "b0"), ""},
		{"too few", demand{resource: "x.io/y", needed: 3, free: ids("a0", "b0")}, nil, "requested number of devices unavailable for x.io/y. Requested: 3, Available: 2"},
		{"from an init container", demand{needed: 1, free: ids("a0"), reusable: ids("c1")}, ids("c1"), ""},
		{"partly from an init container", demand{needed: 2, free: ids("a0", "b0"), reusable: ids("c1")}, ids("a0", "c1"), ""},
		{"near the hint", demand{needed: 1, free: ids("a0", "b0", "c1", "d1"), hint: topology.Hint{Nodes: topology.NewMask(1)}}, ids("c1"), ""},
		{"near first, then far, then anywhere", demand{needed: 4, free: ids("a0", "c1", "d1", "e"), hint: topology.Hint{Nodes: topology.NewMask(1)}}, ids("a0", "c1", "d1", "e"), ""},
		{"far before anywhere", demand{needed: 3, free: ids("a0", "c1", "e", "b0"), hint: topology.Hint{Nodes: topology.NewMask(1)}}, ids("a0", "b0", "c1"), ""},
		{"the plugin's choice", demand{needed: 1, free: ids("a0", "b0"), prefer: favour("b0")}, ids("b0"), ""},
		{"the plugin's choice among the near", demand{needed: 1, free: ids("a0", "c1", "d1"), hint: topology.Hint{Nodes: topology.NewMask(1)}, prefer: favour("a0", "d1")}, ids("d1"), ""},
		{"a choice of what is taken is ignored", demand{needed: 1, free: ids("a0"), prefer: favour("zz")}, ids("a0"), ""},
		{"a plugin that fails", demand{needed: 1, free: ids("a0"), prefer: func(set, set, int) (set, error) { return nil, errors.New("no") }}, nil, "no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.in.devices = spread
			got, err := choose(tc.in)
			if err != nil || tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Errorf("got %v, want %q", err, tc.err)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("chosen (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHints(t *testing.T) {
	spread := near(map[string][]int64{"a0": {0}, "b0": {0}, "c1": {1}, "d1": {1}})
	zero, one, both := topology.NewMask(0), topology.NewMask(1), topology.NewMask(0, 1)
	for _, tc := range []struct {
		name           string
		devices        map[string]*pluginapi.Device
		free, reusable set
		needed         int
		want           []topology.Hint
	}{
		{"no topology", near(map[string][]int64{"a": nil}), ids("a"), nil, 1, nil},
		{"one, either node", spread, ids("a0", "b0", "c1", "d1"), nil, 1, []topology.Hint{{Nodes: zero, Preferred: true}, {Nodes: one, Preferred: true}, {Nodes: both}}},
		{"one, of a full node", spread, ids("c1"), nil, 1, []topology.Hint{{Nodes: one, Preferred: true}, {Nodes: both}}},
		{"two that are apart now, but need not be", spread, ids("a0", "c1"), nil, 2, []topology.Hint{{Nodes: both}}},
		{"three are always apart", spread, ids("a0", "b0", "c1"), nil, 3, []topology.Hint{{Nodes: both, Preferred: true}}},
		{"with those of an init container", spread, ids("a0", "c1"), ids("d1"), 2, []topology.Hint{{Nodes: one, Preferred: true}, {Nodes: both}}},
		{"too few", spread, ids("a0"), nil, 2, []topology.Hint{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, hints([]int{0, 1}, tc.devices, tc.free, tc.reusable, tc.needed)); diff != "" {
				t.Errorf("hints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExtended(t *testing.T) {
	for name, want := range map[string]bool{
		"example.com/gpu": true, "cpu": false, "kubernetes.io/x": false, "a.kubernetes.io/x": false, "requests.example.com/x": false, "example.com/b ad": false,
	} {
		if err := validate(name, []string{"v1beta1"}); (err == nil) != want {
			t.Errorf("%q: got %v, want allowed: %t", name, err, want)
		}
	}
}
