package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/knftables"

	"skiff/proxy/nftables"
)

// Clean removes the link, this proxy's virtual servers and the table. A node without
// the link has never been in this mode. Which servers are the proxy's tell the sets of
// the table, and the addresses of the link where another program has flushed those;
// all others stay.
func Clean() error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
			err = nil
		}
		return errors.Join(err, nftables.CleanTable(Table))
	}
	// Table and link go last: while they are there, the rest is found again.
	if _, err := netlink.GenlFamilyGet("IPVS"); err == nil {
		var errs []error
		for _, v6 := range []bool{false, true} {
			errs = append(errs, removeServers(link, v6))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	if err := nftables.CleanTable(Table); err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// removeServers removes the proxy's virtual servers of a family.
func removeServers(link netlink.Link, v6 bool) error {
	k, err := openKernel(v6)
	if err != nil {
		return err
	}
	defer k.ipvs.Close()
	there, err := k.names(nil)
	if err != nil || len(there) == 0 {
		return err
	}
	noted, err := notedServers(v6)
	if err != nil {
		return err
	}
	bound, err := k.addresses(link)
	if err != nil {
		return err
	}
	ours := make(map[netip.Addr]bool, len(bound))
	for _, ip := range bound {
		ours[ip] = true
	}
	var errs []error
	for name, s := range there {
		if !noted[name] && !ours[name.at.Addr()] {
			continue
		}
		if err := k.ipvs.DelService(s); err != nil {
			errs = append(errs, fmt.Errorf("remove the virtual server %s %s: %w", name.protocol, name.at, err))
		}
	}
	return errors.Join(errs...)
}

// notedServers are the virtual servers that the sets of a family's table name.
func notedServers(v6 bool) (map[serverName]bool, error) {
	out := make(map[serverName]bool)
	family := knftables.IPv4Family
	if v6 {
		family = knftables.IPv6Family
	}
	nft, err := knftables.New(family, Table)
	if err != nil {
		return nil, fmt.Errorf("which virtual servers are this proxy's: %w", err)
	}
	for name, kind := range map[string]string{setServed: "set", mapRefused: "map"} {
		elements, err := nft.ListElements(context.Background(), kind, name)
		if knftables.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("which virtual servers are this proxy's: %w", err)
		}
		for _, e := range elements {
			if n, ok := nameOf(e.Key); ok {
				out[n] = true
			}
		}
	}
	return out, nil
}

// nameOf reads an element of the sets: address, protocol and port.
func nameOf(key []string) (serverName, bool) {
	if len(key) != 3 {
		return serverName{}, false
	}
	ip, err := netip.ParseAddr(key[0])
	if err != nil {
		return serverName{}, false
	}
	port, err := strconv.ParseUint(key[2], 10, 16)
	if err != nil {
		return serverName{}, false
	}
	return serverName{netip.AddrPortFrom(ip, uint16(port)), v1.Protocol(strings.ToUpper(key[1]))}, true
}
