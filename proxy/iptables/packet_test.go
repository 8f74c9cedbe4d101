package iptables

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"skiff/proxy/nfacct"
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

// TestCounted has a packet for a node port on the loopback address counted, also after
// the rules were written again.
func TestCounted(t *testing.T) {
	if _, err := exec.LookPath("iptables-save"); err != nil {
		t.Skip("needs the package iptables")
	}
	w := packettest.NewWorld(t)
	w.Node.Must(t, func() error {
		writer, err := NewWriter(Config{MasqueradeBit: 14, LocalhostNodePorts: true})
		if err != nil {
			return err
		}
		services := table(port("s", func(p *state.Port) { p.NodePort, p.Name.Protocol = 30080, v1.ProtocolUDP }))
		for sent := range uint64(3) {
			if err := writer.Sync(t.Context(), services, true); err != nil {
				return err
			}
			if !writer.cfg.Counted {
				t.Skip("the kernel or iptables has no nfacct")
			}
			if n, err := nfacct.Packets(CountLocalhost); err != nil || n != sent {
				t.Errorf("%d packets are counted of %d, %v", n, sent, err)
			}
			c, err := net.Dial("udp", "127.0.0.1:30080")
			if err != nil {
				return err
			}
			_, _ = c.Write([]byte("?")) // nobody answers
			_ = c.Close()
		}
		if err := Clean(); err != nil {
			return err
		}
		if _, err := nfacct.Packets(CountLocalhost); !errors.Is(err, unix.ENOENT) {
			t.Errorf("after the rules the counter gives %v", err)
		}
		return nil
	})
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
