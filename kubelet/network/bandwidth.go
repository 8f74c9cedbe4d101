package network

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// limitBandwidth shapes what goes to the pod, and polices what comes from it. Where
// the kernel cannot police, the pod's own end shapes what it sends; a pod that may
// administer its network could take that away.
func limitBandwidth(name, netNS string, b Bandwidth) error {
	if b == (Bandwidth{}) {
		return nil
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if b.Ingress > 0 {
		if err := netlink.QdiscReplace(bucket(link, b.Ingress)); err != nil {
			return fmt.Errorf("shape to %s bit/s: %w; the kernel needs sch_tbf", strconv.FormatUint(b.Ingress, 10), err)
		}
	}
	if b.Egress > 0 {
		err := police(link, b.Egress)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			if inside := shapeInside(netNS, b.Egress); inside != nil {
				err = errors.Join(err, inside)
			} else {
				err = nil
			}
		}
		if err != nil {
			return fmt.Errorf("limit to %s bit/s: %w; the kernel needs cls_matchall and act_police, or sch_tbf", strconv.FormatUint(b.Egress, 10), err)
		}
	}
	return nil
}

// bucket lets a link send so many bits in a second.
func bucket(link netlink.Link, bits uint64) *netlink.Tbf {
	rate := bits / 8
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		// The kernel wants the buffer as the time that it takes to send.
		Rate: rate, Buffer: netlink.Xmittime(rate, burst(rate)), Limit: uint32(min(rate/4+uint64(burst(rate)), 1<<30)),
	}
}

// police drops what comes in by a link beyond so many bits in a second.
func police(link netlink.Link, bits uint64) error {
	rate, index := bits/8, link.Attrs().Index
	err := netlink.QdiscReplace(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}})
	if err != nil {
		return err
	}
	action := netlink.NewPoliceAction()
	action.Rate, action.Burst, action.ExceedAction = uint32(min(rate, 1<<32-1)), burst(rate), netlink.TC_POLICE_SHOT
	return netlink.FilterReplace(&netlink.MatchAll{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL},
		Actions:     []netlink.Action{action},
	})
}

// shapeInside lets the pod's end of its link send so many bits in a second.
func shapeInside(path string, bits uint64) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inside.Close()
	link, err := inside.LinkByName(podInterface)
	if err != nil {
		return err
	}
	return inside.QdiscReplace(bucket(link, bits))
}

// burst lets a tenth of a second through at once, and a few packets at least.
func burst(rate uint64) uint32 { return uint32(min(max(rate/10, 32<<10), 1<<30)) }
