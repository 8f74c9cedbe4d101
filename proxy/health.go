package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// health serves the proxy's own health and that of Services whose external
// traffic stays on the node: a load balancer asks the health check node port
// whether this node has endpoints.
type health struct {
	p *Proxy

	mu      sync.Mutex
	ctx     context.Context
	servers map[uint16]*serviceHealth
	wg      sync.WaitGroup
}

type serviceHealth struct {
	name types.NamespacedName
	stop context.CancelFunc
	// well tells whether rules get written.
	well  func() bool
	mu    sync.Mutex
	local int
}

func newHealth(p *Proxy) *health { return &health{p: p, servers: map[uint16]*serviceHealth{}} }

// begin lets update start servers, which end with ctx; wait joins them.
func (h *health) begin(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ctx = ctx
}

func (h *health) wait() { h.wg.Wait() }

// run serves the proxy's own addresses until ctx ends.
func (h *health) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var errs []error
	var wg sync.WaitGroup
	start := func(addr string, handler http.Handler) {
		if addr == "" {
			return
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			if err = fmt.Errorf("proxy: listen on %s: %w", addr, err); h.p.cfg.BindAddressHardFail {
				errs = append(errs, err)
			} else {
				h.p.cfg.Log.Error("the proxy goes without this address", "err", err)
			}
			return
		}
		wg.Go(func() { serve(ctx, l, handler) })
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", coded(h.p.metrics.healthz, h.healthz))
	mux.HandleFunc("/livez", coded(h.p.metrics.livez, h.livez))
	start(h.p.cfg.HealthzAddress, mux)
	start(h.p.cfg.MetricsAddress, h.p.pages())
	if len(errs) > 0 {
		cancel()
	}
	wg.Wait()
	return errors.Join(errs...)
}

func serve(ctx context.Context, l net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	_ = server.Serve(l) // ends with ErrServerClosed
}

// well tells whether rules get written: the first were, and no change has waited
// for longer than two periods.
func (h *health) well(now time.Time) bool {
	if h.p.synced.Load() == 0 {
		return false
	}
	since := h.p.waiting.Load()
	return since == 0 || now.Sub(time.Unix(0, since)) <= 2*h.p.cfg.SyncPeriod
}

// livez is well while rules get written.
func (h *health) livez(w http.ResponseWriter, _ *http.Request) { h.answer(w, true, map[string]any{}) }

// healthz is also unwell while the node is being deleted: load balancers then
// take it out before its pods go (KEP-3836).
func (h *health) healthz(w http.ResponseWriter, _ *http.Request) {
	eligible := true
	if obj, ok, _ := h.p.nodes.GetStore().GetByKey(h.p.cfg.NodeName); ok {
		n := obj.(*v1.Node)
		eligible = n.DeletionTimestamp == nil
		for _, t := range n.Spec.Taints {
			eligible = eligible && t.Key != "ToBeDeletedByClusterAutoscaler"
		}
	}
	h.answer(w, eligible, map[string]any{"nodeEligible": eligible})
}

func (h *health) answer(w http.ResponseWriter, eligible bool, body map[string]any) {
	now := time.Now()
	body["currentTime"] = now.UTC().Format(time.RFC3339)
	body["lastUpdated"] = time.Unix(0, h.p.synced.Load()).UTC().Format(time.RFC3339)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !eligible || !h.well(now) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// update starts and stops the servers of the health check node ports.
func (h *health) update(families []*family) {
	want := map[uint16]types.NamespacedName{}
	local := map[uint16]int{}
	for _, f := range families {
		f.tally.take(f.table)
		for name, c := range f.tally.checked {
			want[c.port] = name
			local[c.port] = max(local[c.port], c.local)
		}
		h.p.metrics.withoutLocal(f.node.IPv6, f.tally.inside, f.tally.outside)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx == nil {
		return
	}
	for port, s := range h.servers {
		if name, ok := want[port]; !ok || name != s.name {
			s.stop()
			delete(h.servers, port)
		}
	}
	for port, name := range want {
		s := h.servers[port]
		if s == nil {
			listeners, err := listenOnNodePort(h.p.cfg.NodePortAddresses, port)
			if err != nil {
				h.p.cfg.Log.Error("health check node port cannot be served", "service", name, "port", port, "err", err)
				continue
			}
			ctx, cancel := context.WithCancel(h.ctx)
			s = &serviceHealth{name: name, stop: cancel, well: func() bool { return h.well(time.Now()) }}
			h.servers[port] = s
			for _, l := range listeners {
				h.wg.Go(func() { serve(ctx, l, s) })
			}
		}
		s.mu.Lock()
		s.local = local[port]
		s.mu.Unlock()
	}
}

// listenOnNodePort listens where node ports answer: on this node's addresses in the
// ranges, on all where none are given.
func listenOnNodePort(ranges []netip.Prefix, port uint16) ([]net.Listener, error) {
	addresses := []string{""}
	if len(ranges) > 0 {
		own, err := net.InterfaceAddrs()
		if err != nil {
			return nil, err
		}
		addresses = within(ranges, own)
	}
	var listeners []net.Listener
	for _, address := range addresses {
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(int(port))))
		if err != nil {
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// within are the addresses that one of the ranges has.
func within(ranges []netip.Prefix, own []net.Addr) []string {
	var out []string
	for _, a := range own {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		// One of the link alone needs the link's name, and is no node port's.
		if !ip.IsLinkLocalUnicast() && slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(ip) }) {
			out = append(out, ip.String())
		}
	}
	return out
}

// ServeHTTP answers 200 when the node has ready endpoints of the Service, and rules
// that lead to them.
func (s *serviceHealth) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	n := s.local
	s.mu.Unlock()
	well := s.well()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(n))
	if n == 0 || !well {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may be gone
		"service":             map[string]string{"namespace": s.name.Namespace, "name": s.name.Name},
		"localEndpoints":      n,
		"serviceProxyHealthy": well,
	})
}
