package announce

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/proxy/packettest"
)

// The client of the world, and what it knows of its neighbours.
type neighbour struct{ w *packettest.World }

// finds asks the link for an address, and returns who has it.
func (n neighbour) finds(ip string) (mac string, err error) {
	err = n.w.Client.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		// What is sent first asks for the neighbour.
		c, err := net.Dial("udp", net.JoinHostPort(ip, "9"))
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		mac, err = known(link, ip)
		return err
	})
	return mac, err
}

// known is what the client's table says of an address.
func known(link netlink.Link, ip string) (string, error) {
	list, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return "", err
	}
	for _, n := range list {
		if n.IP.String() == ip && n.State&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE) != 0 {
			return n.HardwareAddr.String(), nil
		}
	}
	return "", nil
}

// forget empties the table's entry.
func (n neighbour) forget(t *testing.T, ip string) {
	t.Helper()
	n.w.Client.Must(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		err = netlink.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: net.ParseIP(ip)})
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

func eventually(t *testing.T, what string, is func() error) {
	t.Helper()
	var err error
	if wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		err = is()
		return err == nil, nil
	}) != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestAnnounce asks from the link for addresses of both families while they come and
// go, and has an entry of another node in the neighbour's table replaced.
func TestAnnounce(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	w := packettest.NewWorld(t)
	client := neighbour{w}
	own := ""
	w.Node.Must(t, func() error {
		link, err := netlink.LinkByName("client")
		if err == nil {
			own = link.Attrs().HardwareAddr.String()
		}
		return err
	})
	const four, six, moved = "10.1.0.77", "fd01:1::77", "10.1.0.78"
	// Another node has had one of them.
	w.Client.Must(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: net.ParseIP(moved), State: netlink.NUD_STALE, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}})
	})
	api := fake.NewClientset(node("n1"), balancer("both", four, six))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, err := New(Config{Client: api, NodeName: "n1", Ours: ours, Settle: time.Millisecond, Repeat: 10 * time.Millisecond, Look: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	done := w.Node.Start(func() error { return a.Run(ctx) })
	has := func(ip, want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s is at %q", ip, want), func() error {
			got, err := client.finds(ip)
			if err == nil && got != want {
				return fmt.Errorf("it is at %q", got)
			}
			return err
		})
	}
	has(four, own)
	has(six, own)
	if got, err := client.finds("10.1.0.99"); err != nil || got != "" {
		t.Errorf("an address that nobody has is at %q, %v", got, err)
	}
	second := balancer("second", moved)
	if second, err = api.CoreV1().Services("default").Create(ctx, second, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the neighbour hears who has "+moved, func() error {
		return w.Client.Do(func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			if got, err := known(link, moved); err != nil || got != own {
				return errors.Join(err, fmt.Errorf("it is at %q", got))
			}
			return nil
		})
	})
	// The link goes and comes back.
	w.Node.Must(t, func() error {
		link, err := netlink.LinkByName("client")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetDown(link); err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	})
	client.forget(t, four)
	has(four, own)
	second.Spec.Type = v1.ServiceTypeClusterIP
	if _, err := api.CoreV1().Services("default").Update(ctx, second, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, moved+" has gone", func() error {
		client.forget(t, moved)
		if _, err := client.finds(moved); err != nil {
			return err
		}
		got, err := client.finds(moved)
		if err == nil && got != "" {
			return fmt.Errorf("it is at %q", got)
		}
		return err
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWithin(t *testing.T) {
	for _, tc := range []struct {
		network, ip string
		want        bool
	}{
		{"10.1.0.1/24", "10.1.0.77", true},
		{"10.1.0.1/24", "10.1.1.77", false},
		{"10.1.0.77/32", "10.1.0.77", false},
		{"fd01:1::1/64", "fd01:1::77", true},
	} {
		ip, n, err := net.ParseCIDR(tc.network)
		if err != nil {
			t.Fatal(err)
		}
		n.IP = ip
		if got := within(n, netip.MustParseAddr(tc.ip)); got != tc.want {
			t.Errorf("%s in %s: %v", tc.ip, tc.network, got)
		}
	}
}
