package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"skiff/client/serviceslices"
	"skiff/proxy/conntrack"
	"skiff/proxy/iptables"
	"skiff/proxy/ipvs"
	"skiff/proxy/nftables"
	"skiff/proxy/state"
)

// writer brings one family's kernel state to a table.
type writer interface {
	Sync(ctx context.Context, t *state.Table, full bool) error
	// Intact tells whether what was written is still there.
	Intact() (bool, error)
}

// family is the table and writer of one IP family.
type family struct {
	node   state.Node
	table  *state.Table
	writer writer
	full   bool
	stale  []state.Flow
	tally  *tally
}

// Proxy programs the Services of one node.
type Proxy struct {
	cfg      Config
	families []*family
	health   *health
	metrics  *metrics

	services, slices, nodes cache.SharedIndexInformer
	// delivered are done once the handlers have seen all there was at first.
	delivered []cache.DoneChecker

	mu sync.Mutex
	// dirty are the Services to look at; all is set until the first sync.
	dirty map[types.NamespacedName]bool
	// changes are when the endpoints changed whose rules are to be written.
	changes []time.Time
	wake    chan struct{}

	// began is when the process did.
	began time.Time
	zone  atomic.Pointer[string]
	// podCIDRs are the node's, in the mode NodeCIDR.
	podCIDRs atomic.Pointer[[]netip.Prefix]
	// following are those that the writers have; only the loop uses it.
	following *[]netip.Prefix
	synced    atomic.Int64
	// waiting is when the oldest change came that is not written; 0 is none.
	waiting atomic.Int64
}

// New checks the configuration and finds the programs that the mode needs.
func New(cfg Config) (*Proxy, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, began: time.Now(), dirty: map[types.NamespacedName]bool{}, wake: make(chan struct{}, 1), metrics: newMetrics(cfg.Mode)}
	p.health = newHealth(p)
	for _, v6 := range []bool{false, true} {
		if v6 && !cfg.IPv6 || !v6 && !cfg.IPv4 {
			continue
		}
		w, err := newWriter(cfg, cfg.local(v6, nil), v6)
		if err != nil {
			return nil, err
		}
		p.families = append(p.families, &family{
			node: state.Node{Name: cfg.NodeName, IPv6: v6}, table: state.NewTable(), writer: w, full: true, tally: newTally(),
		})
	}
	return p, nil
}

func newWriter(cfg Config, local state.Local, v6 bool) (writer, error) {
	addresses := ofFamily(cfg.NodePortAddresses, v6)
	if cfg.Mode == NFTables {
		return nftables.NewWriter(nftables.Config{
			IPv6: v6, Local: local, MasqueradeAll: cfg.MasqueradeAll, MasqueradeBit: *cfg.MasqueradeBit, NodePortAddresses: addresses,
			KeepInvalid: cfg.Conntrack.TCPBeLiberal,
		})
	}
	if cfg.Mode == IPVS {
		return ipvs.NewWriter(ipvs.Config{
			IPv6: v6, Local: local, MasqueradeAll: cfg.MasqueradeAll, MasqueradeBit: *cfg.MasqueradeBit, NodePortAddresses: addresses, Options: cfg.IPVS,
		})
	}
	return iptables.NewWriter(iptables.Config{
		IPv6: v6, Local: local, MasqueradeAll: cfg.MasqueradeAll, MasqueradeBit: *cfg.MasqueradeBit,
		NodePortAddresses: addresses, LocalhostNodePorts: *cfg.LocalhostNodePorts && !v6, KeepInvalid: cfg.Conntrack.TCPBeLiberal,
	})
}

func ofFamily(ranges []netip.Prefix, v6 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range ranges {
		if r.Addr().Is4() != v6 {
			out = append(out, r)
		}
	}
	return out
}

// Run programs the Services until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	if err := p.sysctls(); err != nil {
		p.cfg.Log.Warn("a kernel setting that Services need could not be made", "err", err)
	}
	if err := p.watch(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.health.begin(ctx)
	var wg sync.WaitGroup
	for _, informer := range []cache.SharedIndexInformer{p.services, p.slices, p.nodes} {
		wg.Go(func() { informer.RunWithContext(ctx) })
	}
	wg.Go(func() {
		if err := p.health.run(ctx); err != nil {
			cancel(err)
		}
	})
	// Full caches are not enough: a first write before the handlers have marked
	// every Service would take away the rules of an earlier process.
	if cache.WaitFor(ctx, "", p.delivered...) && p.knowsPods(ctx) {
		p.loop(ctx)
	}
	<-ctx.Done()
	wg.Wait()
	p.health.wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (p *Proxy) watch() error {
	notHeadless, err := labels.NewRequirement(v1.IsHeadlessService, "!", nil)
	if err != nil {
		return err
	}
	selector := labels.NewSelector().Add(*notHeadless).String()
	objects := informers.NewSharedInformerFactoryWithOptions(p.cfg.Client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = selector }))
	p.services = objects.Core().V1().Services().Informer()
	p.slices = objects.Discovery().V1().EndpointSlices().Informer()
	own := informers.NewSharedInformerFactoryWithOptions(p.cfg.Client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", p.cfg.NodeName).String()
		}))
	p.nodes = own.Core().V1().Nodes().Informer()
	if err := serviceslices.Index(p.slices); err != nil {
		return err
	}
	if err := p.on(p.services, func(obj any, is bool) {
		if key, err := cache.DeletionHandlingObjectToName(obj); err == nil {
			if is {
				p.metrics.services.Inc()
				p.metrics.servicesPending.Inc()
			}
			p.touch(types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
		}
	}); err != nil {
		return err
	}
	if err := p.on(p.slices, func(obj any, is bool) {
		if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = tombstone.Obj
		}
		if name, ok := serviceslices.ServiceOf(obj); ok {
			if is {
				p.metrics.endpoints.Inc()
				p.metrics.endpointsPending.Inc()
				p.noteChange(obj)
			}
			p.touch(name)
		}
	}); err != nil {
		return err
	}
	return p.on(p.nodes, func(obj any, is bool) {
		if n, ok := obj.(*v1.Node); ok && is {
			p.setZone(n.Labels[v1.LabelTopologyZone])
			p.setPodCIDRs(n)
		}
	})
}

// on calls f for every object; is tells it from what an update has replaced.
func (p *Proxy) on(informer cache.SharedIndexInformer, f func(obj any, is bool)) error {
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f(obj, true) },
		UpdateFunc: func(old, obj any) { f(old, false); f(obj, true) },
		DeleteFunc: func(obj any) { f(obj, true) },
	})
	if err != nil {
		return fmt.Errorf("proxy: watch: %w", err)
	}
	p.delivered = append(p.delivered, registration.HasSyncedChecker())
	return nil
}

// noteChange remembers when the endpoints of a slice changed, if that is not long
// ago: what was there before this process is no measure of it.
func (p *Proxy) noteChange(obj any) {
	text := obj.(*discovery.EndpointSlice).Annotations[v1.EndpointsLastChangeTriggerTime]
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Before(p.began) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.ContainsFunc(p.changes, at.Equal) {
		p.changes = append(p.changes, at)
	}
}

// touch asks for another look at a Service.
func (p *Proxy) touch(name types.NamespacedName) {
	p.metrics.queued.SetToCurrentTime()
	p.waiting.CompareAndSwap(0, time.Now().UnixNano())
	p.mu.Lock()
	p.dirty[name] = true
	p.mu.Unlock()
	p.poke()
}

// poke has the loop look.
func (p *Proxy) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// setZone looks at every Service again when the node's zone changes: hints may
// choose other endpoints.
func (p *Proxy) setZone(zone string) {
	if old := p.zone.Swap(&zone); old != nil && *old == zone || old == nil && zone == "" {
		return
	}
	for _, key := range p.services.GetStore().ListKeys() {
		if ns, name, err := cache.SplitMetaNamespaceKey(key); err == nil {
			p.touch(types.NamespacedName{Namespace: ns, Name: name})
		}
	}
}

// leastPause is the least time between two writes where none is configured.
const leastPause = 10 * time.Millisecond

// pause is the time from one write to the next. Where none is configured it is as
// long as the write took, so that writing takes half of the time at most: one
// change is written at once, and many wait for one another.
func (c *Config) pause(took time.Duration) time.Duration {
	if c.MinSyncPeriod > 0 {
		return c.MinSyncPeriod
	}
	return min(max(took, leastPause), c.SyncPeriod)
}

// loop writes what changed, with a pause between writes, and checks the rules
// every SyncPeriod.
func (p *Proxy) loop(ctx context.Context) {
	check := time.NewTicker(p.cfg.SyncPeriod)
	defer check.Stop()
	var retry <-chan time.Time
	left := false
	for {
		began := time.Now()
		err := errors.Join(p.follow(), p.sync(ctx))
		pause := p.cfg.pause(time.Since(began))
		if err == nil && !left {
			// Only now, so that Services answer all the while.
			if err := p.leave(); err != nil {
				p.cfg.Log.Warn("rules of another mode could not be removed", "err", err)
			}
			left = true
		}
		retry = nil
		if err != nil && ctx.Err() == nil {
			p.cfg.Log.Error("service rules could not be written; they are written again", "err", err)
			retry = time.After(max(time.Second, pause))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-retry:
		case <-check.C:
			p.check()
		}
	}
}

// check asks for a whole write when somebody has flushed the rules.
func (p *Proxy) check() {
	for _, f := range p.families {
		ok, err := f.writer.Intact()
		if err != nil {
			p.cfg.Log.Warn("service rules could not be looked at", "err", err)
		}
		if !ok {
			p.cfg.Log.Info("service rules are gone; they are written again")
			f.full = true
		}
	}
}

func (p *Proxy) sync(ctx context.Context) error {
	p.mu.Lock()
	dirty, changes := p.dirty, p.changes
	waiting := p.waiting.Swap(0)
	p.dirty, p.changes = map[types.NamespacedName]bool{}, nil
	p.mu.Unlock()
	p.metrics.servicesPending.Set(0)
	p.metrics.endpointsPending.Set(0)
	zone := ""
	if z := p.zone.Load(); z != nil {
		zone = *z
	}
	changed := map[*family]bool{}
	for name := range dirty {
		svc, slicesOf := p.lookup(name)
		for _, f := range p.families {
			f.node.Zone = zone
			var ports []state.Port
			if svc != nil {
				ports = state.Ports(svc, slicesOf, f.node)
			}
			stale, did := f.table.Set(name, ports)
			f.stale = append(f.stale, stale...)
			changed[f] = changed[f] || did
		}
	}
	var errs []error
	for _, f := range p.families {
		if !changed[f] && !f.full {
			continue
		}
		full := f.full
		f.full = true
		start := time.Now()
		if err := f.writer.Sync(ctx, f.table, full); err != nil {
			p.metrics.failures.Inc()
			errs = append(errs, err)
			continue
		}
		f.full = false
		now := time.Now()
		p.metrics.wrote(f.node.IPv6, full, now.Sub(start))
		p.metrics.programmed(f.node.IPv6, changes, now)
		stale := f.stale
		f.stale = nil
		p.metrics.counted(f.node.IPv6, f.writer)
		began := time.Now()
		n, err := conntrack.Forget(stale, f.node.IPv6)
		p.metrics.forgetting.WithLabelValues(familyName(f.node.IPv6)).Observe(time.Since(began).Seconds())
		p.metrics.forgotten.WithLabelValues(familyName(f.node.IPv6)).Add(float64(n))
		if err != nil {
			p.cfg.Log.Warn("stale UDP flows could not be forgotten", "err", err)
		}
	}
	if len(errs) > 0 {
		if waiting != 0 {
			p.waiting.Store(waiting)
		}
		return errors.Join(errs...)
	}
	p.synced.Store(time.Now().UnixNano())
	p.health.update(p.families)
	return nil
}

func (p *Proxy) lookup(name types.NamespacedName) (*v1.Service, []*discovery.EndpointSlice) {
	obj, ok, err := p.services.GetStore().GetByKey(name.String())
	if err != nil || !ok {
		return nil, nil
	}
	found, err := serviceslices.Of(p.slices, name)
	if err != nil {
		return nil, nil
	}
	return obj.(*v1.Service), found
}

// Clean removes every rule of every mode from the kernel.
func Clean() error { return errors.Join(iptables.Clean(), nftables.Clean(), ipvs.Clean()) }

// leave removes the rules of the modes before. While both are there the kernel
// translates a connection once, by the rules that it finds first.
func (p *Proxy) leave() error {
	var errs []error
	for mode, clean := range map[Mode]func() error{IPTables: iptables.Clean, NFTables: nftables.Clean, IPVS: ipvs.Clean} {
		if mode != p.cfg.Mode {
			errs = append(errs, clean())
		}
	}
	return errors.Join(errs...)
}
