package iptables

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"skiff/proxy/packettest"
	"skiff/proxy/state"
)

// Covers: proxy.iptables
func TestPackets(t *testing.T) {
	if _, err := exec.LookPath("iptables-save"); err != nil {
		t.Skip("needs the package iptables")
	}
	packettest.Run(t, kit())
}

func BenchmarkServices(b *testing.B) { packettest.Measure(b, kit()) }

func kit() packettest.Kit {
	return packettest.Kit{
		Localhost: true,
		New: func(local state.Local, v6 bool, nodePorts ...netip.Prefix) (packettest.Writer, error) {
			return NewWriter(Config{IPv6: v6, Local: local, MasqueradeBit: 14, NodePortAddresses: nodePorts, LocalhostNodePorts: true})
		},
		Flush: func() error {
			for _, table := range []string{"filter", "nat"} {
				for _, what := range []string{"-F", "-X"} {
					if err := exec.Command("iptables", "-t", table, what).Run(); err != nil {
						return err
					}
				}
			}
			return nil
		},
		Clean: Clean,
		Left: func() ([]string, error) {
			out, err := exec.Command("iptables-save").Output()
			var left []string
			for text := range strings.Lines(string(out)) {
				if strings.Contains(text, "KUBE-") {
					left = append(left, strings.TrimSpace(text))
				}
			}
			return left, err
		},
	}
}
