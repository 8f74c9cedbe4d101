package ipvs

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// deed is what a step does.
type deed int

const (
	addServer deed = iota
	setServer
	addEndpoint
	setEndpoint
	removeEndpoint
	removeServer
)

// step is one change of the kernel's virtual servers.
type step struct {
	do       deed
	name     serverName
	server   server // of addServer and setServer
	endpoint netip.AddrPort
	weight   int
}

// steps lead from one state of the virtual servers to another. An endpoint that
// goes gets no new connection, and keeps those that it has as long as they last:
// only what the packets alone keep alive, as with UDP, goes at once.
func steps(have, want map[serverName]server) []step {
	var out []step
	for _, name := range sorted(want) {
		next := want[name]
		old, there := have[name]
		switch {
		case !there:
			out = append(out, step{do: addServer, name: name, server: next})
		case old.scheduler != next.scheduler || old.affinity != next.affinity:
			out = append(out, step{do: setServer, name: name, server: next})
		}
		for _, at := range slices.SortedFunc(maps.Keys(next.endpoints), netip.AddrPort.Compare) {
			if weight, there := old.endpoints[at]; !there {
				out = append(out, step{do: addEndpoint, name: name, endpoint: at, weight: next.endpoints[at]})
			} else if weight != next.endpoints[at] {
				out = append(out, step{do: setEndpoint, name: name, endpoint: at, weight: next.endpoints[at]})
			}
		}
		for _, at := range slices.SortedFunc(maps.Keys(old.endpoints), netip.AddrPort.Compare) {
			if _, stays := next.endpoints[at]; stays {
				continue
			}
			if name.protocol == v1.ProtocolUDP {
				out = append(out, step{do: removeEndpoint, name: name, endpoint: at})
			} else if old.endpoints[at] != 0 {
				out = append(out, step{do: setEndpoint, name: name, endpoint: at})
			}
		}
	}
	for _, name := range sorted(have) {
		if _, stays := want[name]; !stays {
			out = append(out, step{do: removeServer, name: name})
		}
	}
	return out
}

// took changes what the kernel is known to have by a step.
func took(have map[serverName]server, s step) {
	switch of := have[s.name]; s.do {
	case addServer, setServer:
		of.scheduler, of.affinity = s.server.scheduler, s.server.affinity
		if of.endpoints == nil {
			of.endpoints = map[netip.AddrPort]int{}
		}
		have[s.name] = of
	case addEndpoint, setEndpoint:
		of.endpoints[s.endpoint] = s.weight
	case removeEndpoint:
		delete(of.endpoints, s.endpoint)
	case removeServer:
		delete(have, s.name)
	}
}

func sorted(m map[serverName]server) []serverName {
	return slices.SortedFunc(maps.Keys(m), func(a, b serverName) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.protocol, b.protocol))
	})
}
