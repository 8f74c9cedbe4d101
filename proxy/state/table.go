package state

import (
	"cmp"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Table is every service port of one family by Service. Versions count the
// changes of a Service's rows, so that a writer knows what it has written.
type Table struct {
	services map[types.NamespacedName]*row
	changes  uint64
	// names are the Services in order; nil until somebody asks.
	names []types.NamespacedName
	// journal are the Services that the last changes were of, the newest last.
	journal []types.NamespacedName
}

type row struct {
	ports   []Port
	version uint64
}

// journaled is how many changes are remembered at least.
const journaled = 4096

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
	if t.journal = append(t.journal, name); len(t.journal) >= 2*journaled {
		t.journal = append(t.journal[:0], t.journal[len(t.journal)-journaled:]...)
	}
	stale = staleFlows(before, ports)
	if len(ports) == 0 {
		delete(t.services, name)
		t.list(name, false)
		return stale, true
	}
	t.services[name] = &row{ports: ports, version: t.changes}
	if old == nil {
		t.list(name, true)
	}
	return stale, true
}

// list keeps the names in order when one comes or goes.
func (t *Table) list(name types.NamespacedName, comes bool) {
	if t.names == nil {
		return
	}
	i, _ := slices.BinarySearchFunc(t.names, name, compareNames)
	if comes {
		t.names = slices.Insert(t.names, i, name)
	} else {
		t.names = slices.Delete(t.names, i, i+1)
	}
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// Len is the number of Services.
func (t *Table) Len() int { return len(t.services) }

// Of are the ports of a Service.
func (t *Table) Of(name types.NamespacedName) []Port {
	if r := t.services[name]; r != nil {
		return r.ports
	}
	return nil
}

// Version is that of the last change; 0 is before the first.
func (t *Table) Version() uint64 { return t.changes }

// Since names the Services that changed after a version, each once. It is not ok
// when that is too long ago: any may have changed.
func (t *Table) Since(version uint64) (names []types.NamespacedName, ok bool) {
	n := t.changes - version
	if n > uint64(len(t.journal)) {
		return nil, false
	}
	seen := map[types.NamespacedName]bool{}
	for _, name := range t.journal[uint64(len(t.journal))-n:] {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names, true
}

// Names are the Services in their order.
func (t *Table) Names() []types.NamespacedName {
	if t.names == nil {
		t.names = slices.SortedFunc(maps.Keys(t.services), compareNames)
	}
	return t.names
}

// Each visits every port in name order with the version of its Service.
func (t *Table) Each(visit func(p *Port, version uint64)) {
	for _, name := range t.Names() {
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
