package state

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Table is every service port of one family by Service. Versions count the
// changes of a Service's rows, so that a writer knows what it has written.
type Table struct {
	services map[types.NamespacedName]*row
	changes  uint64
}

type row struct {
	ports   []Port
	version uint64
}

// NewTable is an empty table.
func NewTable() *Table { return &Table{services: map[types.NamespacedName]*row{}} }

// Set replaces a Service's ports; none removes it. It tells what stale UDP
// flows the change leaves behind, and whether anything changed.
func (t *Table) Set(name types.NamespacedName, ports []Port) (stale []Flow, changed bool) {
	old := t.services[name]
	var before []Port
	if old != nil {
		before = old.ports
	}
	if slices.EqualFunc(before, ports, equal) {
		return nil, false
	}
	t.changes++
	stale = staleFlows(before, ports)
	if len(ports) == 0 {
		delete(t.services, name)
		return stale, true
	}
	t.services[name] = &row{ports: ports, version: t.changes}
	return stale, true
}

// Len is the number of Services.
func (t *Table) Len() int { return len(t.services) }

// Each visits every port in name order with the version of its Service.
func (t *Table) Each(visit func(p *Port, version uint64)) {
	names := make([]types.NamespacedName, 0, len(t.services))
	for name := range t.services {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, name := range names {
		r := t.services[name]
		for i := range r.ports {
			visit(&r.ports[i], r.version)
		}
	}
}

func equal(a, b Port) bool {
	return a.Name == b.Name && a.ClusterIP == b.ClusterIP && a.Port == b.Port && a.NodePort == b.NodePort &&
		slices.Equal(a.ExternalIP, b.ExternalIP) && slices.Equal(a.LoadBalancerIPs, b.LoadBalancerIPs) &&
		slices.Equal(a.SourceRanges, b.SourceRanges) && a.AffinitySeconds == b.AffinitySeconds &&
		a.ExternalLocal == b.ExternalLocal && a.InternalLocal == b.InternalLocal &&
		a.HealthCheckNodePort == b.HealthCheckNodePort && a.HasAny == b.HasAny && a.LocalReady == b.LocalReady &&
		slices.EqualFunc(a.Cluster, b.Cluster, sameEndpoint) && slices.EqualFunc(a.Local, b.Local, sameEndpoint)
}

// sameEndpoint compares what rules are made of.
func sameEndpoint(a, b Endpoint) bool { return a.Addr == b.Addr && a.Local == b.Local }

// Flow names connection-tracking entries that send packets to where nothing
// answers any more: only UDP flows live on by the packets alone.
type Flow struct {
	// Port is the service port; its addresses are the flow's destinations.
	Port Port
	// Endpoint, when valid, limits it to flows translated to that endpoint; else
	// every flow of the port is meant that goes to none of its endpoints: those
	// that were not translated, and those that an earlier process translated.
	Endpoint Endpoint
}

func staleFlows(before, after []Port) []Flow {
	now := map[PortName]*Port{}
	for i := range after {
		now[after[i].Name] = &after[i]
	}
	var out []Flow
	for i := range before {
		p := &before[i]
		if p.Name.Protocol != v1.ProtocolUDP {
			continue
		}
		next := now[p.Name]
		for _, e := range serving(p) {
			if next == nil || !slices.ContainsFunc(serving(next), func(n Endpoint) bool { return n.Addr == e.Addr }) {
				out = append(out, Flow{Port: *p, Endpoint: e})
			}
		}
	}
	was := map[PortName]*Port{}
	for i := range before {
		was[before[i].Name] = &before[i]
	}
	for i := range after {
		p := &after[i]
		if p.Name.Protocol != v1.ProtocolUDP || len(p.Cluster) == 0 {
			continue
		}
		// What was sent before there was an endpoint went nowhere and is remembered so.
		if old := was[p.Name]; old == nil || len(old.Cluster) == 0 {
			out = append(out, Flow{Port: *p})
		}
	}
	return out
}

func serving(p *Port) []Endpoint { return append(slices.Clone(p.Cluster), p.Local...) }
