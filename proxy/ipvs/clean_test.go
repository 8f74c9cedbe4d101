package ipvs

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skiff/proxy/packettest"
	"skiff/proxy/state"
)

// TestCleanLeavesOthers leaves the mode on a node where other programs have virtual
// servers, one of them on the node's own address.
func TestCleanLeavesOthers(t *testing.T) {
	if err := Available(); err != nil {
		t.Skip(err)
	}
	w := packettest.NewWorld(t)
	w.Node.Must(t, func() error {
		exclude := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.1.0.1/32")}
		writer, err := NewWriter(Config{MasqueradeBit: 14, Options: Options{Exclude: exclude}})
		if err != nil {
			return err
		}
		var others []string
		for _, at := range []string{"192.0.2.1:80", "10.1.0.1:9999"} {
			name := serverName{netip.MustParseAddrPort(at), "TCP"}
			if err := writer.kernel.do(step{do: addServer, name: name, server: server{scheduler: "rr"}}, server{}); err != nil {
				return err
			}
			others = append(others, at)
		}
		table := state.NewTable()
		for i, ends := range [][]state.Endpoint{nil, {{Addr: netip.MustParseAddrPort("10.2.1.2:8080"), Ready: true}}} {
			p := testPort(func(p *state.Port) {
				p.Name.Name, p.ClusterIP = []string{"none", "one"}[i], netip.AddrFrom4([4]byte{10, 96, 0, byte(i + 1)})
				p.NodePort, p.Cluster, p.Local = uint16(30080+i), ends, nil
			})
			table.Set(p.Name.NamespacedName, []state.Port{*p})
		}
		if err := writer.Sync(context.Background(), table, true); err != nil {
			return err
		}
		all, err := writer.kernel.names(nil)
		if err != nil {
			return err
		}
		if len(all) < len(others)+4 {
			t.Errorf("virtual servers before: %v, want those of two Services and node ports too", slices.Collect(maps.Keys(all)))
		}
		if err := Clean(); err != nil {
			return err
		}
		left, err := writer.kernel.names(nil)
		if err != nil {
			return err
		}
		var got []string
		for name := range left {
			got = append(got, name.at.String())
		}
		slices.Sort(got)
		slices.Sort(others)
		if diff := cmp.Diff(others, got); diff != "" {
			t.Errorf("virtual servers after Clean (-want +got):\n%s", diff)
		}
		return nil
	})
}
