package ipvs

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"skiff/proxy/packettest"
	"skiff/proxy/state"
)

// Covers: proxy.ipvs
func TestPackets(t *testing.T) {
	if err := Available(); err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the package nftables")
	}
	packettest.Run(t, kit())
}

func BenchmarkServices(b *testing.B) {
	if err := Available(); err != nil {
		b.Skip(err)
	}
	packettest.Measure(b, kit())
}

func kit() packettest.Kit {
	return packettest.Kit{
		New: func(local state.Local, v6 bool, nodePorts ...netip.Prefix) (packettest.Writer, error) {
			return NewWriter(Config{IPv6: v6, Local: local, MasqueradeBit: 14, NodePortAddresses: nodePorts})
		},
		LongAffinity: true,
		Flush: func() error {
			k, err := openKernel(false)
			if err != nil {
				return err
			}
			defer k.ipvs.Close()
			if err := k.ipvs.Flush(); err != nil {
				return err
			}
			return exec.Command("nft", "flush", "ruleset").Run()
		},
		Clean: Clean,
		Left: func() ([]string, error) {
			out, err := exec.Command("nft", "list", "ruleset").Output()
			if err != nil {
				return nil, err
			}
			var left []string
			for text := range strings.Lines(string(out)) {
				left = append(left, strings.TrimSpace(text))
			}
			k, err := openKernel(false)
			if err != nil {
				return nil, err
			}
			defer k.ipvs.Close()
			servers, err := k.servers(nil)
			for name, s := range servers {
				for at := range s.endpoints {
					left = append(left, name.at.String()+" "+at.String())
				}
			}
			return left, err
		},
	}
}
