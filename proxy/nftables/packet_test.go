package nftables

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"skiff/proxy/packettest"
	"skiff/proxy/state"
)

// Covers: proxy.nftables
func TestPackets(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the package nftables")
	}
	packettest.Run(t, kit())
}

func BenchmarkServices(b *testing.B) { packettest.Measure(b, kit()) }

func kit() packettest.Kit {
	return packettest.Kit{
		New: func(local state.Local, v6 bool, nodePorts ...netip.Prefix) (packettest.Writer, error) {
			return NewWriter(Config{IPv6: v6, Local: local, MasqueradeBit: 14, NodePortAddresses: nodePorts})
		},
		Flush: func() error { return exec.Command("nft", "flush", "ruleset").Run() },
		Clean: Clean,
		Left: func() ([]string, error) {
			out, err := exec.Command("nft", "list", "ruleset").Output()
			var left []string
			for text := range strings.Lines(string(out)) {
				left = append(left, strings.TrimSpace(text))
			}
			return left, err
		},
	}
}
