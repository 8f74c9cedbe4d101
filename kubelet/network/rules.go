package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/coreos/go-iptables/iptables"
)

// The chains of the nat and filter tables that are ours.
const (
	chainMasquerade = "SKIFF-MASQUERADE"
	chainHostPorts  = "SKIFF-HOSTPORTS"
	chainPortsMasq  = "SKIFF-HOSTPORTS-MASQ"
	chainForward    = "SKIFF-FORWARD"
	chainFirewall   = "SKIFF-FIREWALL"
)

// rules are the host's netfilter rules for pods: masquerading and host ports.
// What is open for whom is kept on disk, so that it can be closed after a crash.
type rules struct {
	dir string

	mu     sync.Mutex
	tables map[iptables.Protocol]*iptables.IPTables // by family, made when first used; guarded by mu
}

func newRules(dir string) *rules {
	return &rules{dir: dir, tables: make(map[iptables.Protocol]*iptables.IPTables)}
}

func familyOf(ip netip.Addr) iptables.Protocol {
	if ip.Is6() {
		return iptables.ProtocolIPv6
	}
	return iptables.ProtocolIPv4
}

// table opens iptables of a family. The caller holds mu.
func (r *rules) table(p iptables.Protocol) (*iptables.IPTables, error) {
	if t := r.tables[p]; t != nil {
		return t, nil
	}
	t, err := iptables.New(iptables.IPFamily(p), iptables.Timeout(30))
	if err != nil {
		return nil, fmt.Errorf("iptables: %w; install the package iptables", err)
	}
	r.tables[p] = t
	return t, nil
}

func ensureChain(t *iptables.IPTables, table, chain string) error {
	exists, err := t.ChainExists(table, chain)
	if err != nil || exists {
		return err
	}
	return t.NewChain(table, chain)
}

// rule is one rule of a chain.
type rule struct {
	table, chain string
	spec         []string
}

// own are the rules of our chains for the pod CIDRs.
func own(cidr netip.Prefix, cluster []netip.Prefix, masquerade bool) []rule {
	multicast := "224.0.0.0/4"
	if cidr.Addr().Is6() {
		multicast = "ff00::/8"
	}
	var out []rule
	if masquerade {
		out = append(out, rule{"nat", chainMasquerade, []string{"-d", cidr.String(), "-j", "RETURN"}})
		for _, c := range cluster {
			if c.Addr().Is6() == cidr.Addr().Is6() {
				out = append(out, rule{"nat", chainMasquerade, []string{"-d", c.Masked().String(), "-j", "RETURN"}})
			}
		}
		out = append(out, rule{"nat", chainMasquerade, []string{"!", "-d", multicast, "-j", "MASQUERADE", "--random-fully"}})
	}
	for _, side := range []string{"-s", "-d"} {
		out = append(out, rule{"filter", chainForward, []string{side, cidr.String(), "-j", "ACCEPT"}})
	}
	return out
}

// jumps lead from the kernel's chains to ours.
func jumps(cidr netip.Prefix) []rule {
	local := []string{"-m", "addrtype", "--dst-type", "LOCAL", "-m", "comment", "--comment", "skiff host ports", "-j", chainHostPorts}
	return []rule{
		{"nat", "POSTROUTING", []string{"-m", "comment", "--comment", "skiff host ports", "-j", chainPortsMasq}},
		{"nat", "POSTROUTING", []string{"-s", cidr.String(), "-m", "comment", "--comment", "skiff pods to the outside", "-j", chainMasquerade}},
		{"nat", "PREROUTING", local},
		{"nat", "OUTPUT", local},
		{"filter", "FORWARD", []string{"-m", "comment", "--comment", "skiff pods", "-j", chainForward}},
	}
}

// prepare makes the chains and the masquerading for the given pod CIDRs.
func (r *rules) prepare(cidrs, cluster []netip.Prefix, masquerade bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cidr := range cidrs {
		t, err := r.table(familyOf(cidr.Addr()))
		if err != nil {
			return err
		}
		for _, c := range []struct{ table, chain string }{
			{"nat", chainMasquerade}, {"nat", chainHostPorts}, {"nat", chainPortsMasq}, {"filter", chainForward},
		} {
			if err := ensureChain(t, c.table, c.chain); err != nil {
				return fmt.Errorf("iptables chain %s: %w", c.chain, err)
			}
		}
		if err := errors.Join(t.ClearChain("nat", chainMasquerade), t.ClearChain("filter", chainForward)); err != nil {
			return err
		}
		for _, o := range own(cidr, cluster, masquerade) {
			if err := t.Append(o.table, o.chain, o.spec...); err != nil {
				return fmt.Errorf("iptables chain %s: %w", o.chain, err)
			}
		}
		for _, j := range jumps(cidr) {
			if err := t.AppendUnique(j.table, j.chain, j.spec...); err != nil {
				return fmt.Errorf("iptables chain %s: %w", j.chain, err)
			}
		}
		if cidr.Addr().Is4() {
			if err := openLoopback(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// guard are the rules that keep the host's loopback to itself.
func guard() (drop, jump rule) {
	return rule{"filter", chainFirewall, []string{"!", "-s", "127.0.0.0/8", "-d", "127.0.0.0/8",
			"-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED,DNAT", "-j", "DROP"}},
		rule{"filter", "INPUT", []string{"-m", "comment", "--comment", "skiff keeps the loopback to the host", "-j", chainFirewall}}
}

// openLoopback lets the host itself reach host ports by its 127.0.0.1. The
// kernel setting for that would also let pods and neighbours reach what listens
// there for the host alone (CVE-2020-8558), so that is refused first.
func openLoopback(t *iptables.IPTables) error {
	if err := ensureChain(t, "filter", chainFirewall); err != nil {
		return fmt.Errorf("iptables chain %s: %w", chainFirewall, err)
	}
	drop, jump := guard()
	if err := t.AppendUnique(drop.table, drop.chain, drop.spec...); err != nil {
		return fmt.Errorf("keep the loopback to the host: %w", err)
	}
	// Before rules that accept.
	if err := t.InsertUnique(jump.table, jump.chain, 1, jump.spec...); err != nil {
		return fmt.Errorf("iptables chain %s: %w", chainFirewall, err)
	}
	return setSysctl("net/ipv4/conf/all/route_localnet", "1")
}

// intact tells whether the rules are still there: another program may have flushed
// them.
func (r *rules) intact(cidrs, cluster []netip.Prefix, masquerade bool) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cidr := range cidrs {
		t, err := r.table(familyOf(cidr.Addr()))
		if err != nil {
			return false, err
		}
		want := append(own(cidr, cluster, masquerade), jumps(cidr)...)
		if cidr.Addr().Is4() {
			drop, jump := guard()
			want = append(want, drop, jump)
		}
		for _, o := range want {
			// A chain that is gone is an error to the program, and a flush to us.
			if ok, err := t.Exists(o.table, o.chain, o.spec...); err != nil || !ok {
				return false, nil
			}
		}
	}
	return true, nil
}

// reopen makes the rules of every open port again.
func (r *rules) reopen() error {
	var errs []error
	for _, id := range r.owners() {
		data, err := os.ReadFile(filepath.Join(r.dir, id))
		if err != nil {
			continue // closed meanwhile
		}
		var rec portRecord
		if err := json.Unmarshal(data, &rec); err != nil {
			continue // cut short by a crash, before any rule was made
		}
		errs = append(errs, r.open(id, rec.IPs, rec.Mappings))
	}
	return errors.Join(errs...)
}

// portRecord is what is open for one pod.
type portRecord struct {
	IPs      []netip.Addr  `json:"ips"`
	Mappings []PortMapping `json:"mappings"`
}

// open maps host ports to a pod.
func (r *rules) open(id string, ips []netip.Addr, mappings []PortMapping) error {
	kept := mappings[:0:0]
	for _, m := range mappings {
		if m.HostPort > 0 {
			kept = append(kept, m)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	rec := portRecord{IPs: ips, Mappings: kept}
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	// The record comes first: what it names and is not there is no harm.
	if err := os.WriteFile(filepath.Join(r.dir, id), data, 0o600); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rule := range rec.rules(id) {
		t, err := r.table(rule.family)
		if err != nil {
			return err
		}
		if err := t.AppendUnique("nat", rule.chain, rule.spec...); err != nil {
			return fmt.Errorf("host port: %w", err)
		}
	}
	return nil
}

// close undoes open.
func (r *rules) close(id string) error {
	path := filepath.Join(r.dir, id)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var rec portRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		// Cut short by a crash, before any rule was made.
		return os.Remove(path)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rule := range rec.rules(id) {
		t, err := r.table(rule.family)
		if err != nil {
			return err
		}
		if err := t.DeleteIfExists("nat", rule.chain, rule.spec...); err != nil {
			return fmt.Errorf("close host port: %w", err)
		}
	}
	return os.Remove(path)
}

// owners lists the pods that ports are open for.
func (r *rules) owners() []string {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

type natRule struct {
	family iptables.Protocol
	chain  string
	spec   []string
}

func (rec portRecord) rules(id string) []natRule {
	var out []natRule
	comment := []string{"-m", "comment", "--comment", "skiff pod " + id[:min(len(id), 13)]}
	for _, m := range rec.Mappings {
		for _, ip := range rec.IPs {
			if m.HostIP.IsValid() && !m.HostIP.IsUnspecified() && m.HostIP.Is6() != ip.Is6() {
				continue
			}
			proto := []string{"-p", string(m.Protocol)}
			dnat := append([]string{}, proto...)
			if m.HostIP.IsValid() && !m.HostIP.IsUnspecified() {
				dnat = append(dnat, "-d", hostNet(m.HostIP).String())
			}
			port := strconv.Itoa(int(m.ContainerPort))
			dnat = append(dnat, "--dport", strconv.Itoa(int(m.HostPort)))
			dnat = append(dnat, comment...)
			dnat = append(dnat, "-j", "DNAT", "--to-destination", net.JoinHostPort(ip.String(), port))
			out = append(out, natRule{familyOf(ip), chainHostPorts, dnat})
			// The pod to itself, and the host's loopback, need another source.
			sources := []string{hostNet(ip).String()}
			if ip.Is4() {
				sources = append(sources, "127.0.0.0/8")
			}
			for _, src := range sources {
				masq := append([]string{}, proto...)
				masq = append(masq, "-s", src, "-d", hostNet(ip).String(), "--dport", port)
				masq = append(masq, comment...)
				masq = append(masq, "-j", "MASQUERADE")
				out = append(out, natRule{familyOf(ip), chainPortsMasq, masq})
			}
		}
	}
	return out
}
