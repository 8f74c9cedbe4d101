// Package lan gives several nodes of one machine a network of their own: a
// bridge in the machine's namespace, and a network namespace with one link to it
// for each node. It is what `skiff up --nodes` stands on.
package lan

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const namespaces = "/run/netns"

// LAN is the network of one root. ID is short and tells it from others.
type LAN struct{ ID string }

// The names of what a LAN is made of; interface names have 15 bytes at most.
func (l LAN) bridge() string         { return "sk" + l.ID }
func (l LAN) link(i int) string      { return fmt.Sprintf("sk%s-%d", l.ID, i) }
func (l LAN) Namespace(i int) string { return fmt.Sprintf("skiff-%s-%d", l.ID, i) }

// subnet is a /24 of the range for tests of network devices (RFC 2544), which
// no real network has.
func (l LAN) subnet() netip.Prefix {
	n := byte(0)
	for _, c := range []byte(l.ID) {
		n = n*31 + c
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, n, 0}), 24)
}

// Host is the machine's own address on the bridge.
func (l LAN) Host() netip.Addr { return l.subnet().Addr().Next() }

// Node is the address of node i, from 1.
func (l LAN) Node(i int) netip.Addr {
	b := l.subnet().Addr().As4()
	b[3] = byte(10 + i)
	return netip.AddrFrom4(b)
}

// six is the IPv6 address beside one of IPv4, of a range of the LAN's own.
func (l LAN) six(ip netip.Addr) netip.Prefix {
	four := ip.As4()
	six := [16]byte{0xfd, 0x00, 0, 0x98, 0, 0x18, 0, four[2], 15: four[3]}
	return netip.PrefixFrom(netip.AddrFrom16(six), 64)
}

// addresses are those of one place in the LAN. A kernel without IPv6 has the first
// alone.
func (l LAN) addresses(ip netip.Addr) []netip.Prefix {
	out := []netip.Prefix{netip.PrefixFrom(ip, 24)}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		out = append(out, l.six(ip))
	}
	return out
}

// give sets the addresses of a link. Nobody else is in the LAN, so that no address
// waits until it is known to be free.
func give(link netlink.Link, addrs []netip.Prefix) error {
	for _, p := range addrs {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, a); err != nil {
			return fmt.Errorf("address %s: %w", p, err)
		}
	}
	return nil
}

// Up makes the bridge and the namespaces of nodes 1 to n. What exists is kept.
func (l LAN) Up(n int) error {
	bridge, err := ensureBridge(l.bridge(), l.addresses(l.Host()))
	if err != nil {
		return fmt.Errorf("bridge %s: %w", l.bridge(), err)
	}
	for i := 1; i <= n; i++ {
		if err := l.node(bridge, i); err != nil {
			return fmt.Errorf("network namespace %s: %w", l.Namespace(i), err)
		}
	}
	return nil
}

func ensureBridge(name string, addrs []netip.Prefix) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
			return nil, err
		}
		link, err = netlink.LinkByName(name)
	}
	if err != nil {
		return nil, err
	}
	if err := give(link, addrs); err != nil {
		return nil, err
	}
	return link, netlink.LinkSetUp(link)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (l LAN) node(bridge netlink.Link, i int) error {
	path := filepath.Join(namespaces, l.Namespace(i))
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := makeNamespace(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: l.link(i), MasterIndex: bridge.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(f.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	outer, err := netlink.LinkByName(l.link(i))
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(outer); err != nil {
		return err
	}
	return within(f, func() error {
		for name, addrs := range map[string][]netip.Prefix{"lo": nil, "eth0": l.addresses(l.Node(i))} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := give(link, addrs); err != nil {
				return err
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
		}
		for _, p := range l.addresses(l.Host()) {
			if err := netlink.RouteReplace(&netlink.Route{Gw: p.Addr().AsSlice()}); err != nil {
				return fmt.Errorf("route by %s: %w", p.Addr(), err)
			}
		}
		return nil
	})
}

// makeNamespace makes a network namespace that lives on at path, as `ip netns
// add` does.
func makeNamespace(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// The folder is a shared mount of its own, as ip-netns(8) makes it: were it
	// made one later, the names below would be hidden and could not be removed.
	if err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""); errors.Is(err, unix.EINVAL) {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
		if err := unix.Mount("", dir, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("share %s: %w", dir, err)
		}
	} else if err != nil {
		return fmt.Errorf("share %s: %w", dir, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	})
}

// within calls f on a thread in the namespace.
func within(ns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// onThread calls f on a thread that is thrown away after.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// Down removes the namespaces, their links and the bridge.
func (l LAN) Down() error {
	var errs []error
	for i := 1; i < 100; i++ {
		// The kernel takes a namespace's own links away only some time after its
		// last user is gone.
		if link, err := netlink.LinkByName(l.link(i)); err == nil {
			errs = append(errs, netlink.LinkDel(link))
		}
		path := filepath.Join(namespaces, l.Namespace(i))
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
			continue
		}
		errs = append(errs, os.Remove(path))
	}
	link, err := netlink.LinkByName(l.bridge())
	if err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(errs...)
}
