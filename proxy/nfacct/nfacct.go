// Package nfacct keeps the kernel's named packet counters, which rules of iptables
// count into. They outlive the rules, which are written again and again.
package nfacct

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Messages and attributes of the kernel's nfnetlink_acct.
const (
	messageNew    = 0
	messageGet    = 1
	messageDelete = 3

	attributeName    = 1
	attributePackets = 2
)

// Ensure makes a counter where it is not there yet.
func Ensure(name string) error {
	_, err := ask(messageNew, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, name)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make the packet counter %s: %w", name, err)
	}
	return nil
}

// Packets are how many a counter has seen.
func Packets(name string) (uint64, error) {
	answers, err := ask(messageGet, unix.NLM_F_ACK, name)
	if err != nil {
		return 0, fmt.Errorf("read the packet counter %s: %w", name, err)
	}
	for _, a := range answers {
		if n, ok := packets(a); ok {
			return n, nil
		}
	}
	return 0, fmt.Errorf("read the packet counter %s: the kernel's answer has no number", name)
}

// Delete removes a counter, which no rule may count into any more.
func Delete(name string) error {
	_, err := ask(messageDelete, unix.NLM_F_ACK, name)
	// Without the kernel's module there is no counter either.
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return fmt.Errorf("remove the packet counter %s: %w", name, err)
}

func ask(message, flags int, name string) ([][]byte, error) {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_ACCT<<8|message, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	r.AddData(nl.NewRtAttr(attributeName, nl.ZeroTerminated(name)))
	return r.Execute(unix.NETLINK_NETFILTER, 0)
}

// packets reads the number of an answer, which begins with a generic header.
func packets(answer []byte) (uint64, bool) {
	const header = 4
	if len(answer) < header {
		return 0, false
	}
	attributes, err := nl.ParseRouteAttr(answer[header:])
	if err != nil {
		return 0, false
	}
	for _, a := range attributes {
		if a.Attr.Type == attributePackets && len(a.Value) == 8 {
			return binary.BigEndian.Uint64(a.Value), true
		}
	}
	return 0, false
}
