package iptables

import (
	"fmt"
	"os/exec"
	"testing"

	"skiff/proxy/packettest"
)

// TestIntact has one chain flushed at a time, as another program may do.
func TestIntact(t *testing.T) {
	if _, err := exec.LookPath("iptables-save"); err != nil {
		t.Skip("needs the package iptables")
	}
	w := packettest.NewWorld(t)
	w.Node.Must(t, func() error {
		writer, err := NewWriter(Config{MasqueradeBit: 14})
		if err != nil {
			return err
		}
		for _, each := range []struct {
			table, chain string
			want         bool
		}{
			{"nat", chainCanary, true},
			{"nat", "PREROUTING", false},
			{"filter", "FORWARD", false},
			{"nat", chainServices, false},
			{"nat", chainPostrouting, false},
			{"nat", chainMarkMasq, false},
			{"filter", chainForward, false},
		} {
			if err := writer.Sync(t.Context(), table(port("s")), true); err != nil {
				return err
			}
			if ok, err := writer.Intact(); err != nil || !ok {
				t.Errorf("before %s of %s is flushed: intact is %v, %v", each.chain, each.table, ok, err)
			}
			if out, err := exec.Command("iptables", "-t", each.table, "-F", each.chain).CombinedOutput(); err != nil {
				return fmt.Errorf("flush %s: %w: %s", each.chain, err, out)
			}
			if ok, err := writer.Intact(); err != nil || ok != each.want {
				t.Errorf("after %s of %s was flushed: intact is %v, %v, want %v", each.chain, each.table, ok, err, each.want)
			}
		}
		return nil
	})
}
