package ipvs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"skiff/proxy/nftables"
	"skiff/proxy/state"
)

// Writer keeps one family's virtual servers in the kernel. It is for one goroutine.
type Writer struct {
	cfg    Config
	kernel *kernel
	table  *nftables.Writer
	// own are the node's addresses, and nodes those that node ports answer on.
	own, nodes []netip.Addr
	// have is what the kernel has, and bound the addresses on its link; unknown
	// before the first write, and after one that failed.
	have  map[serverName]server
	bound map[netip.Addr]bool
	known bool
}

// NewWriter finds IPVS and the nft program.
func NewWriter(cfg Config) (*Writer, error) {
	cfg.Scheduler = cmp.Or(cfg.Scheduler, "rr")
	k, err := openKernel(cfg.IPv6)
	if err != nil {
		return nil, err
	}
	if err := k.settings(cfg.Options); err != nil {
		return nil, err
	}
	w := &Writer{cfg: cfg, kernel: k}
	return w, w.renewTable()
}

// renewTable begins the table anew: what it says depends on the node's addresses.
func (w *Writer) renewTable() (err error) {
	w.table, err = nftables.NewLayoutWriter(nftables.Layout{
		Name: Table, IPv6: w.cfg.IPv6, Base: w.cfg.base,
		Rules:  func(p *state.Port) *nftables.Content { return w.cfg.content(w.own, w.nodes, p) },
		Chains: []string{"nat-prerouting", "nat-postrouting", chainServices, chainCheck},
	})
	return err
}

// look reads the node's addresses, and tells whether they have changed.
func (w *Writer) look() (changed bool, err error) {
	own, err := w.kernel.addresses(nil)
	if err != nil || slices.Equal(own, w.own) {
		return false, err
	}
	w.own, w.nodes = own, answering(own, w.cfg.NodePortAddresses)
	return true, nil
}

// answering are the addresses that node ports answer on: IPVS takes nothing that is
// for the loopback.
func answering(own []netip.Addr, ranges []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, ip := range own {
		within := len(ranges) == 0 || slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(ip) })
		if within && !ip.IsLoopback() {
			out = append(out, ip)
		}
	}
	return out
}

// Sync brings the kernel to the table: first what answers, then the addresses that
// lead to it; and the other way round for what goes.
func (w *Writer) Sync(ctx context.Context, t *state.Table, full bool) error {
	changed, err := w.look()
	if err != nil {
		return fmt.Errorf("IPVS: %w", err)
	}
	if changed {
		if err := w.renewTable(); err != nil {
			return err
		}
	}
	link, err := w.kernel.link()
	if err != nil {
		return fmt.Errorf("IPVS: %w", err)
	}
	if full || !w.known {
		if err := w.read(link); err != nil {
			return fmt.Errorf("IPVS: %w", err)
		}
	}
	w.known = false
	want, addresses := w.want(t)
	plan := steps(w.have, want)
	gone := slices.IndexFunc(plan, func(s step) bool { return s.do == removeServer })
	if gone < 0 {
		gone = len(plan)
	}
	errs := []error{w.run(plan[:gone]), w.table.Sync(ctx, t, full)}
	for _, there := range []bool{true, false} {
		from, to := w.bound, addresses
		if there {
			from, to = addresses, w.bound
		}
		for ip := range from {
			if to[ip] {
				continue
			}
			if err := w.kernel.address(link, ip, there); err != nil {
				errs = append(errs, err)
			} else if there {
				w.bound[ip] = true
			} else {
				delete(w.bound, ip)
			}
		}
	}
	errs = append(errs, w.run(plan[gone:]))
	if err := errors.Join(errs...); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("IPVS: %w", err)
	}
	w.known = true
	return nil
}

// read takes from the kernel what there is.
func (w *Writer) read(link netlink.Link) error {
	have, err := w.kernel.servers(w.cfg.Exclude)
	if err != nil {
		return err
	}
	bound, err := w.kernel.addresses(link)
	if err != nil {
		return err
	}
	w.have, w.bound = have, make(map[netip.Addr]bool, len(bound))
	for _, ip := range bound {
		w.bound[ip] = true
	}
	return nil
}

// want is what all ports want. The first of two that want the same has it.
func (w *Writer) want(t *state.Table) (servers map[serverName]server, addresses map[netip.Addr]bool) {
	servers, addresses = map[serverName]server{}, map[netip.Addr]bool{}
	t.Each(func(p *state.Port, _ uint64) {
		of := w.cfg.servers(w.nodes, p)
		for name, s := range of.servers {
			if _, taken := servers[name]; !taken {
				servers[name] = s
			}
		}
		for _, ip := range of.addresses {
			if !slices.Contains(w.own, ip) {
				addresses[ip] = true
			}
		}
	})
	return servers, addresses
}

// run makes the steps, and remembers those that were made.
func (w *Writer) run(plan []step) error {
	var errs []error
	for _, s := range plan {
		if err := w.kernel.do(s, w.have[s.name]); err != nil {
			errs = append(errs, err)
			continue
		}
		took(w.have, s)
	}
	return errors.Join(errs...)
}

// Intact tells whether all is still there, and the node's addresses are what they
// were. It also takes away the endpoints that have gone and whose last connection
// has ended.
func (w *Writer) Intact() (bool, error) {
	if !w.known {
		return false, nil
	}
	if ok, err := w.table.Intact(); err != nil || !ok {
		return false, err
	}
	link, err := netlink.LinkByName(device)
	if err != nil {
		return false, nil // it is made again
	}
	own, err := w.kernel.addresses(nil)
	if err != nil {
		return false, err
	}
	bound, err := w.kernel.addresses(link)
	if err != nil {
		return false, err
	}
	there, err := w.kernel.names(w.cfg.Exclude)
	if err != nil {
		return false, err
	}
	for name := range w.have {
		if there[name] == nil {
			return false, nil
		}
	}
	return slices.Equal(own, w.own) && len(bound) == len(w.bound) && len(there) == len(w.have), w.release()
}

// release removes the endpoints without a weight that have no connection.
func (w *Writer) release() error {
	var errs []error
	for name, s := range w.have {
		var ending []netip.AddrPort
		for at, weight := range s.endpoints {
			if weight == 0 {
				ending = append(ending, at)
			}
		}
		if len(ending) == 0 {
			continue
		}
		unused, err := w.kernel.unused(name, s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, at := range ending {
			if unused[at] {
				errs = append(errs, w.run([]step{{do: removeEndpoint, name: name, endpoint: at}}))
			}
		}
	}
	return errors.Join(errs...)
}

// Clean removes the link, the virtual servers and the table. A node without the link
// has never been in this mode, and its virtual servers are others'.
func Clean() error {
	errs := []error{nftables.CleanTable(Table)}
	link, err := netlink.LinkByName(device)
	if err != nil {
		if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
			err = nil
		}
		return errors.Join(append(errs, err)...)
	}
	// The link goes last: while it is there, the rest is looked for again.
	if _, err := netlink.GenlFamilyGet("IPVS"); err == nil {
		k, err := openKernel(false)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		defer k.ipvs.Close()
		if err := k.ipvs.Flush(); err != nil {
			return errors.Join(append(errs, fmt.Errorf("remove virtual servers: %w", err))...)
		}
	}
	return errors.Join(append(errs, netlink.LinkDel(link))...)
}
