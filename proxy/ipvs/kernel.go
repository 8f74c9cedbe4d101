package ipvs

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// device is the link that has the Services' addresses, as upstream's.
const device = "kube-ipvs0"

// Available tells why the kernel has no IPVS, and nil where it has.
func Available() error {
	if _, err := netlink.GenlFamilyGet("IPVS"); err == nil {
		return nil
	}
	// Where it is a module nobody has needed yet; where there is none the second look
	// tells.
	_ = exec.Command("modprobe", "ip_vs").Run()
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		return fmt.Errorf("the kernel has no IPVS (%w): load the module ip_vs, or set mode to nftables or iptables", err)
	}
	return nil
}

// kernel is IPVS and the link in the network namespace where it was opened.
type kernel struct {
	v6   bool
	ipvs *ipvs.Handle
}

func openKernel(v6 bool) (*kernel, error) {
	// The library remembers for good when it does not find IPVS.
	if err := Available(); err != nil {
		return nil, err
	}
	h, err := ipvs.New("")
	if err != nil {
		return nil, fmt.Errorf("IPVS: %w", err)
	}
	return &kernel{v6, h}, nil
}

// persistent is the flag of a server whose clients keep their endpoints.
const persistent = 0x1

// service is a virtual server as the kernel knows it.
func (k *kernel) service(name serverName, s server) *ipvs.Service {
	out := &ipvs.Service{
		Address: name.at.Addr().AsSlice(), Port: name.at.Port(), Protocol: number(name.protocol), SchedName: s.scheduler,
		AddressFamily: unix.AF_INET, Netmask: 1<<32 - 1,
	}
	if k.v6 {
		out.AddressFamily, out.Netmask = unix.AF_INET6, 128
	}
	if s.affinity > 0 {
		out.Flags, out.Timeout = persistent, s.affinity
	}
	return out
}

func number(p v1.Protocol) uint16 {
	switch p {
	case v1.ProtocolUDP:
		return unix.IPPROTO_UDP
	case v1.ProtocolSCTP:
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}

// protocol is the other way; nothing else has virtual servers.
func protocol(n uint16) v1.Protocol {
	switch n {
	case unix.IPPROTO_UDP:
		return v1.ProtocolUDP
	case unix.IPPROTO_SCTP:
		return v1.ProtocolSCTP
	}
	return v1.ProtocolTCP
}

// names are the virtual servers of the family, but those of other programs.
func (k *kernel) names(exclude []netip.Prefix) (map[serverName]*ipvs.Service, error) {
	list, err := k.ipvs.GetServices()
	if err != nil {
		return nil, fmt.Errorf("list virtual servers: %w", err)
	}
	out := make(map[serverName]*ipvs.Service, len(list))
	for _, s := range list {
		ip, ok := netip.AddrFromSlice(s.Address)
		if !ok || s.FWMark != 0 || ip.Is6() != k.v6 || slices.ContainsFunc(exclude, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			continue
		}
		out[serverName{netip.AddrPortFrom(ip, s.Port), protocol(s.Protocol)}] = s
	}
	return out, nil
}

// servers reads the virtual servers with their endpoints.
func (k *kernel) servers(exclude []netip.Prefix) (map[serverName]server, error) {
	list, err := k.names(exclude)
	if err != nil {
		return nil, err
	}
	out := make(map[serverName]server, len(list))
	for name, s := range list {
		have := server{scheduler: s.SchedName, endpoints: map[netip.AddrPort]int{}}
		if s.Flags&persistent != 0 {
			have.affinity = s.Timeout
		}
		ends, err := k.ipvs.GetDestinations(s)
		if err != nil {
			return nil, fmt.Errorf("list the endpoints of the virtual server %s: %w", name.at, err)
		}
		for _, e := range ends {
			if ip, ok := netip.AddrFromSlice(e.Address); ok {
				have.endpoints[netip.AddrPortFrom(ip, e.Port)] = e.Weight
			}
		}
		out[name] = have
	}
	return out, nil
}

// unused are the endpoints of a virtual server without a connection.
func (k *kernel) unused(name serverName, s server) (map[netip.AddrPort]bool, error) {
	ends, err := k.ipvs.GetDestinations(k.service(name, s))
	if err != nil {
		return nil, fmt.Errorf("list the endpoints of the virtual server %s: %w", name.at, err)
	}
	out := make(map[netip.AddrPort]bool)
	for _, e := range ends {
		if ip, ok := netip.AddrFromSlice(e.Address); ok && e.ActiveConnections == 0 && e.InactiveConnections == 0 {
			out[netip.AddrPortFrom(ip, e.Port)] = true
		}
	}
	return out, nil
}

// do makes a step. have is the server's state.
func (k *kernel) do(s step, have server) error {
	if s.do == addServer || s.do == setServer {
		have = s.server
	}
	svc := k.service(s.name, have)
	end := &ipvs.Destination{Weight: s.weight, ConnectionFlags: ipvs.ConnFwdMasq, AddressFamily: svc.AddressFamily}
	if s.endpoint.IsValid() {
		end.Address, end.Port = s.endpoint.Addr().AsSlice(), s.endpoint.Port()
	}
	var err error
	switch s.do {
	case addServer:
		err = k.ipvs.NewService(svc)
	case setServer:
		err = k.ipvs.UpdateService(svc)
	case removeServer:
		err = k.ipvs.DelService(svc)
	case addEndpoint:
		err = k.ipvs.NewDestination(svc, end)
	case setEndpoint:
		err = k.ipvs.UpdateDestination(svc, end)
	case removeEndpoint:
		err = k.ipvs.DelDestination(svc, end)
	}
	switch {
	case err == nil:
		return nil
	case s.do == addServer && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("virtual server %s: the kernel has no scheduler %q: load the module ip_vs_%s, or set ipvs.scheduler to rr", s.name.at, have.scheduler, have.scheduler)
	case s.endpoint.IsValid():
		return fmt.Errorf("virtual server %s %s, endpoint %s: %w", s.name.protocol, s.name.at, s.endpoint, err)
	}
	return fmt.Errorf("virtual server %s %s: %w", s.name.protocol, s.name.at, err)
}

func (k *kernel) family() int {
	if k.v6 {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// link finds the link of the Services' addresses, or makes it.
func (k *kernel) link() (netlink.Link, error) {
	link, err := netlink.LinkByName(device)
	if err == nil {
		return link, nil
	}
	if missing := (netlink.LinkNotFoundError{}); !errors.As(err, &missing) {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = device
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make the link %s: %w; the kernel needs the module dummy", device, err)
	}
	if link, err = netlink.LinkByName(device); err != nil {
		return nil, err
	}
	return link, netlink.LinkSetUp(link)
}

// addresses are the family's on a link, or with nil on all but the Services'.
func (k *kernel) addresses(link netlink.Link) ([]netip.Addr, error) {
	ours := 0
	if l, err := netlink.LinkByName(device); err == nil {
		ours = l.Attrs().Index
	}
	list, err := netlink.AddrList(link, k.family())
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok || link == nil && a.LinkIndex == ours {
			continue
		}
		if ip = ip.Unmap(); !ip.IsLinkLocalUnicast() {
			out = append(out, ip)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

func (k *kernel) address(link netlink.Link, ip netip.Addr, there bool) error {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}}
	if !there {
		if err := netlink.AddrDel(link, a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take the address %s from %s: %w", ip, device, err)
		}
		return nil
	}
	if k.v6 {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give %s the address %s: %w", device, ip, err)
	}
	return nil
}

// settings are what IPVS needs of the kernel beside.
func (k *kernel) settings(o Options) error {
	want := map[string]string{
		"vs/conntrack":                 "1", // so that what it translates can be masqueraded
		"vs/expire_nodest_conn":        "1",
		"vs/expire_quiescent_template": "1",
	}
	if o.StrictARP {
		want["conf/all/arp_ignore"], want["conf/all/arp_announce"] = "1", "2"
	}
	var errs []error
	for name, value := range want {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			errs = append(errs, fmt.Errorf("set net/ipv4/%s to %s: %w", name, value, err))
		}
	}
	if o.TCPTimeout != 0 || o.TCPFinTimeout != 0 || o.UDPTimeout != 0 {
		err := k.ipvs.SetConfig(&ipvs.Config{TimeoutTCP: o.TCPTimeout, TimeoutTCPFin: o.TCPFinTimeout, TimeoutUDP: o.UDPTimeout})
		if err != nil {
			errs = append(errs, fmt.Errorf("set IPVS timeouts: %w", err))
		}
	}
	return errors.Join(errs...)
}
