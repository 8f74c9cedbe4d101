package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ipam hands out the addresses of the node's pod CIDRs. Each address in use is
// a file that is named after it and holds its owner, so that a crash at any
// moment leaves either an address with an owner or a free one.
type ipam struct {
	dir string

	mu   sync.Mutex
	used map[netip.Addr]string       // address to owner; guarded by mu
	last map[netip.Prefix]netip.Addr // where the last search ended; guarded by mu
}

func openIPAM(dir string) (*ipam, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a := &ipam{dir: dir, used: make(map[netip.Addr]string), last: make(map[netip.Prefix]netip.Addr)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		ip, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue
		}
		owner, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		// A file without its owner was cut short by a crash, before anyone had the address.
		if len(owner) == 0 {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		a.used[ip] = string(owner)
	}
	return a, nil
}

// gateway is the first address of a pod CIDR, the host's end.
func gateway(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

// allocate gives owner an address of each prefix.
func (a *ipam) allocate(owner string, prefixes []netip.Prefix) (_ []netip.Addr, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var got []netip.Addr
	defer func() {
		if err != nil {
			for _, ip := range got {
				err = errors.Join(err, a.drop(ip))
			}
		}
	}()
	for _, p := range prefixes {
		ip, err := a.next(p)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(a.dir, ip.String())
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		_, err = f.WriteString(owner)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			os.Remove(path)
			return nil, err
		}
		a.used[ip], a.last[p] = owner, ip
		got = append(got, ip)
	}
	return got, nil
}

// next finds a free address, going on behind the last one, so that an address
// rests before it is given again. The caller holds mu.
func (a *ipam) next(p netip.Prefix) (netip.Addr, error) {
	p = p.Masked()
	first := gateway(p).Next()
	start := a.last[p]
	if start.IsValid() {
		start = start.Next()
	}
	if !start.IsValid() || !p.Contains(start) {
		start = first
	}
	for ip, wrapped := start, false; ; {
		if !p.Contains(ip) || ip.Is4() && !p.Contains(ip.Next()) { // behind the end, or the broadcast address
			if wrapped {
				break
			}
			ip, wrapped = first, true
			continue
		}
		if wrapped && ip == start {
			break
		}
		if _, taken := a.used[ip]; !taken {
			return ip, nil
		}
		ip = ip.Next()
	}
	return netip.Addr{}, fmt.Errorf("no free address in pod CIDR %s; delete pods of this node or give it a larger CIDR", p)
}

// drop frees an address. The caller holds mu.
func (a *ipam) drop(ip netip.Addr) error {
	if err := os.Remove(filepath.Join(a.dir, ip.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(a.used, ip)
	return nil
}

// release frees what owner has and returns it.
func (a *ipam) release(owner string) ([]netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var freed []netip.Addr
	var errs []error
	for ip, o := range a.used {
		if o == owner {
			errs = append(errs, a.drop(ip))
			freed = append(freed, ip)
		}
	}
	return freed, errors.Join(errs...)
}

// owned lists the addresses that owner has.
func (a *ipam) owned(owner string) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []netip.Addr
	for ip, o := range a.used {
		if o == owner {
			out = append(out, ip)
		}
	}
	return out
}

// owners lists all that have addresses.
func (a *ipam) owners() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]bool)
	for _, o := range a.used {
		out[o] = true
	}
	return out
}

// hostLink is the name of the host's end of a pod's link.
func hostLink(id string) string {
	return "veth" + strings.ToLower(id)[:min(len(id), 11)]
}
