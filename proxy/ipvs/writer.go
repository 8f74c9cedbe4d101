package ipvs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/types"

	"skiff/proxy/ledger"
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
	// servers and addresses are what all ports want, as of a version of the service table, and made
	// what each Service's do.
	servers   ledger.Ledger[serverName, server]
	addresses map[netip.Addr]int // by how many want them
	made      map[types.NamespacedName][]portWish
	as        uint64
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
	return w, w.renew()
}

// portWish is what one port wants.
type portWish struct {
	of state.PortName
	wish
}

// renew forgets what ports want: that depends on the node's addresses.
func (w *Writer) renew() (err error) {
	w.servers, w.addresses = ledger.Ledger[serverName, server]{}, map[netip.Addr]int{}
	w.made, w.as, w.known = map[types.NamespacedName][]portWish{}, 0, false
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
		if err := w.renew(); err != nil {
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
	names, addresses := w.take(t)
	if full || !w.known {
		names, addresses = w.everything()
	}
	w.known = false
	have, want := map[serverName]server{}, map[serverName]server{}
	for name := range names {
		if s, ok := w.have[name]; ok {
			have[name] = s
		}
		if s, ok := w.servers.First(name); ok {
			want[name] = s
		}
	}
	plan := steps(have, want)
	gone := slices.IndexFunc(plan, func(s step) bool { return s.do == removeServer })
	if gone < 0 {
		gone = len(plan)
	}
	errs := []error{w.run(plan[:gone]), w.table.Sync(ctx, t, full), w.bind(link, addresses)}
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

// take takes the changes of the service table. It returns what they touch.
func (w *Writer) take(t *state.Table) (names map[serverName]bool, addresses map[netip.Addr]bool) {
	changed, ok := t.Since(w.as)
	if !ok {
		changed = slices.Clone(t.Names())
		for name := range w.made {
			if t.Of(name) == nil {
				changed = append(changed, name)
			}
		}
	}
	w.as = t.Version()
	names, addresses = map[serverName]bool{}, map[netip.Addr]bool{}
	for _, service := range changed {
		for _, old := range w.made[service] {
			for name := range old.servers {
				names[name] = true
				w.servers.Leave(name, old.of)
			}
			for _, ip := range old.addresses {
				addresses[ip] = true
				w.addresses[ip]--
			}
		}
		delete(w.made, service)
		ports := t.Of(service)
		for i := range ports {
			next := portWish{ports[i].Name, w.cfg.servers(w.own, w.nodes, &ports[i])}
			for name, s := range next.servers {
				names[name] = true
				w.servers.Claim(name, next.of, s)
			}
			for _, ip := range next.addresses {
				addresses[ip] = true
				w.addresses[ip]++
			}
			w.made[service] = append(w.made[service], next)
		}
	}
	return names, addresses
}

// everything is all that is wanted or there.
func (w *Writer) everything() (names map[serverName]bool, addresses map[netip.Addr]bool) {
	names, addresses = map[serverName]bool{}, maps.Clone(w.bound)
	for name := range w.have {
		names[name] = true
	}
	for name := range w.servers {
		names[name] = true
	}
	for ip := range w.addresses {
		addresses[ip] = true
	}
	return names, addresses
}

// bind gives the link those of the addresses that are wanted, and takes the others
// from it.
func (w *Writer) bind(link netlink.Link, addresses map[netip.Addr]bool) error {
	var errs []error
	for ip := range addresses {
		wanted := w.addresses[ip] > 0
		if !wanted {
			delete(w.addresses, ip)
		}
		if wanted == w.bound[ip] {
			continue
		}
		if err := w.kernel.address(link, ip, wanted); err != nil {
			errs = append(errs, err)
		} else if wanted {
			w.bound[ip] = true
		} else {
			delete(w.bound, ip)
		}
	}
	return errors.Join(errs...)
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
