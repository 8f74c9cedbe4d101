package cache

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/topology"
)

// nodeTree orders nodes so that neighbours lie in different zones: sampling
// any stretch of the list then sees all zones.
type nodeTree struct {
	names  []string            // zone keys in the order of their first node
	zones  map[string][]string // zone key to node names
	zoneOf map[string]string
}

// set records a node's zone and tells whether the order changed.
func (t *nodeTree) set(node *v1.Node) bool {
	zone := topology.GetZoneKey(node)
	if old, ok := t.zoneOf[node.Name]; ok {
		if old == zone {
			return false
		}
		t.remove(node.Name)
	}
	if _, ok := t.zones[zone]; !ok {
		t.names = append(t.names, zone)
	}
	t.zones[zone] = append(t.zones[zone], node.Name)
	t.zoneOf[node.Name] = zone
	return true
}

func (t *nodeTree) remove(name string) bool {
	zone, ok := t.zoneOf[name]
	if !ok {
		return false
	}
	delete(t.zoneOf, name)
	nodes := t.zones[zone]
	t.zones[zone] = slices.Delete(nodes, slices.Index(nodes, name), slices.Index(nodes, name)+1)
	if len(t.zones[zone]) == 0 {
		delete(t.zones, zone)
		t.names = slices.DeleteFunc(t.names, func(z string) bool { return z == zone })
	}
	return true
}

// list takes one node of each zone in turn.
func (t *nodeTree) list() []string {
	out := make([]string, 0, len(t.zoneOf))
	for i := 0; len(out) < len(t.zoneOf); i++ {
		for _, zone := range t.names {
			if nodes := t.zones[zone]; i < len(nodes) {
				out = append(out, nodes[i])
			}
		}
	}
	return out
}
