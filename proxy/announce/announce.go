package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"skiff/client/serviceslices"
)

// Config is what an Announcer needs.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	// Ours tells which addresses of load balancers are announced: those of the pool.
	Ours func(netip.Addr) bool
	// Settle is how long changes are gathered; default 50 ms.
	Settle time.Duration
	// Repeat is the time between two announcements of an address that is new here;
	// default one second.
	Repeat time.Duration
	// Look is how often the node's links are looked at; default ten seconds.
	Look time.Duration
	// Refresh is how often an address is announced anew, for neighbours that have another
	// node's entry; default 30 seconds.
	Refresh time.Duration
	// HealthPort is where the proxies of all nodes answer /healthz. Where it is set a
	// node takes over from one that is silent there; 0 waits for the API server to call
	// that not ready.
	HealthPort int
	// Ask is how often they are asked, and how long for an answer; default one second.
	Ask time.Duration
	// Connected tells whether this node reaches the API server; default asks for the Node.
	Connected func(context.Context) error
	Log       *slog.Logger
}

// Announcer announces the addresses that are this node's.
type Announcer struct {
	cfg     Config
	changed chan struct{}
	prober  *prober
	// speakers, by link and family; mine are the addresses that were said to be this
	// node's. Only Run uses them.
	speakers map[place]*speaker
	mine     map[netip.Addr]bool
	running  sync.WaitGroup
	// settled tells that others know of this node since it began, or was dead.
	began   time.Time
	settled bool
}

// place is where a speaker speaks.
type place struct {
	link string
	v6   bool
}

// New checks the configuration.
func New(cfg Config) (*Announcer, error) {
	if cfg.Client == nil || cfg.NodeName == "" || cfg.Ours == nil {
		return nil, errors.New("announce: Client, NodeName and Ours are required")
	}
	for at, value := range map[*time.Duration]time.Duration{&cfg.Settle: 50 * time.Millisecond, &cfg.Repeat: time.Second, &cfg.Look: 10 * time.Second, &cfg.Refresh: 30 * time.Second, &cfg.Ask: time.Second} {
		if *at == 0 {
			*at = value
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Connected == nil {
		cfg.Connected = cfg.connected
	}
	a := &Announcer{cfg: cfg, changed: make(chan struct{}, 1), speakers: make(map[place]*speaker), mine: make(map[netip.Addr]bool), began: time.Now()}
	a.prober = newProber(cfg, a.wake)
	return a, nil
}

// Run announces until ctx ends. Then nobody answers for this node's addresses; other
// nodes take them over once its proxy is silent, or the API server has it as not ready.
func (a *Announcer) Run(ctx context.Context) error {
	f := informers.NewSharedInformerFactory(a.cfg.Client, 0)
	nodes, services, ends := f.Core().V1().Nodes(), f.Core().V1().Services(), f.Discovery().V1().EndpointSlices()
	if err := serviceslices.Index(ends.Informer()); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	wake := func(any) { a.wake() }
	for _, informer := range []cache.SharedIndexInformer{nodes.Informer(), services.Informer(), ends.Informer()} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: wake, UpdateFunc: func(_, obj any) { wake(obj) }, DeleteFunc: wake})
		if err != nil {
			return fmt.Errorf("announce: %w", err)
		}
	}
	f.StartWithContext(ctx)
	defer f.Shutdown()
	defer a.close()
	for _, ok := range f.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return nil
		}
	}
	look, refresh := time.NewTicker(a.cfg.Look), time.NewTicker(a.cfg.Refresh)
	defer look.Stop()
	defer refresh.Stop()
	if a.cfg.HealthPort != 0 {
		a.running.Go(func() { a.prober.run(ctx) })
	}
	for {
		list, err := services.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("announce: %w", err)
		}
		all, err := nodes.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("announce: %w", err)
		}
		w := world{nodes: all, services: list, ours: a.cfg.Ours, slices: func(s *v1.Service) []*discovery.EndpointSlice { return sliced(ends.Informer(), s) }}
		var again, settling <-chan time.Time
		mine, early := a.take(w.choose(), all)
		if early {
			settling = time.After(a.cfg.Ask)
		}
		if a.speak(mine) {
			again = time.After(a.cfg.Repeat)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		case <-settling:
		case <-refresh.C:
			for _, s := range a.speakers {
				s.refresh()
			}
		case <-again:
		case <-a.changed:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(a.cfg.Settle):
			}
		}
	}
}

func (a *Announcer) wake() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

func sliced(informer cache.SharedIndexInformer, s *v1.Service) []*discovery.EndpointSlice {
	found, err := serviceslices.Of(informer, types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	if err != nil {
		return nil // Run has made the index
	}
	return found
}

// take finds the addresses that this node announces, and has those nodes asked after
// that this hangs on. early tells that there are more, for which it is too early: until
// others have seen that this node is there, or there again, they may still have them.
func (a *Announcer) take(chosen map[netip.Addr][]string, nodes []*v1.Node) (mine map[netip.Addr]bool, early bool) {
	mine = make(map[netip.Addr]bool)
	if a.cfg.HealthPort == 0 {
		for ip, rank := range chosen {
			if rank[0] == a.cfg.NodeName {
				mine[ip] = true
			}
		}
		return mine, false
	}
	switch now := time.Now(); {
	case a.prober.of(a.cfg.NodeName) == dead:
		a.began, a.settled = now, false
	case !now.Before(settled(a.began, a.prober.answering(), a.cfg.Ask)):
		a.settled = true
	}
	asked := make(map[string]string)
	for ip, rank := range chosen {
		ours, watch := decide(rank, a.cfg.NodeName, a.prober.of)
		for _, name := range watch {
			asked[name] = ""
		}
		switch {
		case ours && (a.settled || len(rank) == 1 || a.mine[ip]):
			mine[ip] = true
		case ours:
			early = true
		}
	}
	for _, n := range nodes {
		if _, wanted := asked[n.Name]; wanted {
			asked[n.Name] = address(n)
		}
	}
	a.prober.watch(asked)
	return mine, early
}

// address is where a node's proxy is asked.
func address(n *v1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == v1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

// speak brings the speakers to the addresses that are this node's. more tells that it
// is to be called again soon.
func (a *Announcer) speak(mine map[netip.Addr]bool) (more bool) {
	if !maps.Equal(mine, a.mine) {
		a.cfg.Log.Info("the addresses of load balancers that this node announces", "addresses", slices.SortedFunc(maps.Keys(mine), netip.Addr.Compare))
		a.mine = mine
	}
	links, err := onLink(mine)
	if err != nil {
		a.cfg.Log.Error("the node's links cannot be listed", "err", err)
		return false
	}
	for at, s := range a.speakers {
		select {
		case <-s.over:
			delete(a.speakers, at) // the link was away; it may be back
			continue
		default:
		}
		if l, ok := links[at]; !ok || l.ifi.Index != s.ifi.Index {
			s.close()
			delete(a.speakers, at)
		}
	}
	for at, l := range links {
		s := a.speakers[at]
		if s == nil {
			if s, err = listen(&l.ifi, at.v6); err != nil {
				a.cfg.Log.Error("addresses of load balancers cannot be announced", "err", err)
				continue
			}
			a.speakers[at] = s
			a.running.Go(func() {
				if err := s.run(); err != nil {
					a.cfg.Log.Warn("addresses of load balancers are not announced for a while", "err", err)
				}
			})
		}
		again, err := s.set(l.addresses)
		if err != nil {
			a.cfg.Log.Error("addresses of load balancers cannot be announced", "err", err)
		}
		more = more || again
	}
	return more
}

func (a *Announcer) close() {
	for _, s := range a.speakers {
		s.close()
	}
	a.running.Wait()
}

// link is a link and the addresses that belong to its networks.
type link struct {
	ifi       net.Interface
	addresses map[netip.Addr]bool
}

// onLink finds the links that each address belongs to; others cannot be asked for.
func onLink(addresses map[netip.Addr]bool) (map[place]link, error) {
	out := make(map[place]link)
	if len(addresses) == 0 {
		return out, nil
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, ifi := range all {
		if ifi.Flags&net.FlagUp == 0 || ifi.Flags&net.FlagBroadcast == 0 || len(ifi.HardwareAddr) != 6 {
			continue
		}
		networks, err := ifi.Addrs()
		if err != nil {
			continue // it has just gone
		}
		for ip := range addresses {
			if !slices.ContainsFunc(networks, func(n net.Addr) bool { return within(n, ip) }) {
				continue
			}
			at := place{ifi.Name, ip.Is6()}
			if _, ok := out[at]; !ok {
				out[at] = link{ifi, make(map[netip.Addr]bool)}
			}
			out[at].addresses[ip] = true
		}
	}
	return out, nil
}

// within tells whether others on the link find an address on it too: a network of one
// address has nobody else.
func within(n net.Addr, ip netip.Addr) bool {
	p, err := netip.ParsePrefix(n.String())
	return err == nil && !p.IsSingleIP() && p.Contains(ip)
}
