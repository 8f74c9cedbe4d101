package cache

import "skiff/scheduler/framework"

// Snapshot is the view of one scheduling cycle. UpdateSnapshot brings it up to
// date in place, touching only the nodes that changed; the NodeInfos that it
// holds never change.
type Snapshot struct {
	nodes        []*framework.NodeInfo
	index        map[string]int
	affinity     []*framework.NodeInfo
	antiAffinity []*framework.NodeInfo
	claims       map[string]int
}

var _ framework.Snapshot = (*Snapshot)(nil)

// NewSnapshot makes an empty snapshot.
func NewSnapshot() *Snapshot { return &Snapshot{index: map[string]int{}, claims: map[string]int{}} }

// NewSnapshotOf makes a snapshot of fixed nodes, for simulations and tests.
func NewSnapshotOf(nodes ...*framework.NodeInfo) *Snapshot {
	s := NewSnapshot()
	for i, n := range nodes {
		s.nodes = append(s.nodes, n)
		s.index[n.Name()] = i
		s.countClaims(n, 1)
	}
	s.relist()
	return s
}

// Nodes lists all nodes, neighbours in different zones.
func (s *Snapshot) Nodes() []*framework.NodeInfo { return s.nodes }

// Node finds a node, nil when unknown.
func (s *Snapshot) Node(name string) *framework.NodeInfo {
	if i, ok := s.index[name]; ok {
		return s.nodes[i]
	}
	return nil
}

// NodesWithAffinityPods lists nodes having pods with (anti-)affinity terms.
func (s *Snapshot) NodesWithAffinityPods() []*framework.NodeInfo { return s.affinity }

// NodesWithRequiredAntiAffinityPods lists nodes having pods with required anti-affinity terms.
func (s *Snapshot) NodesWithRequiredAntiAffinityPods() []*framework.NodeInfo { return s.antiAffinity }

// PVCUsed is true when a pod on any node uses the claim "namespace/name".
func (s *Snapshot) PVCUsed(key string) bool { return s.claims[key] > 0 }

func (s *Snapshot) countClaims(n *framework.NodeInfo, sign int) {
	for key := range n.PVCRefCounts {
		if s.claims[key] += sign; s.claims[key] <= 0 {
			delete(s.claims, key)
		}
	}
}

func (s *Snapshot) relist() {
	s.affinity, s.antiAffinity = nil, nil
	for _, n := range s.nodes {
		if len(n.PodsWithAffinity) > 0 {
			s.affinity = append(s.affinity, n)
		}
		if len(n.PodsWithRequiredAntiAffinity) > 0 {
			s.antiAffinity = append(s.antiAffinity, n)
		}
	}
}

// UpdateSnapshot brings s up to date. s belongs to this cache: no other may have updated it.
func (c *Cache) UpdateSnapshot(s *Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	if len(c.dirty) == 0 && !c.treeDirty {
		return
	}
	relist := c.treeDirty
	publish := func(name string) *framework.NodeInfo {
		e := c.nodes[name]
		e.published = true
		return e.info
	}
	for name := range c.dirty {
		old := s.Node(name)
		var now *framework.NodeInfo
		if e := c.nodes[name]; e != nil && e.info.Node != nil {
			now = publish(name)
		}
		if old != nil {
			s.countClaims(old, -1)
			relist = relist || len(old.PodsWithAffinity) > 0
		}
		if now != nil {
			s.countClaims(now, 1)
			relist = relist || len(now.PodsWithAffinity) > 0
			if i, ok := s.index[name]; ok {
				s.nodes[i] = now
			}
		}
	}
	clear(c.dirty)
	if c.treeDirty {
		c.treeDirty = false
		names := c.tree.list()
		s.nodes = make([]*framework.NodeInfo, len(names))
		clear(s.index)
		for i, name := range names {
			s.nodes[i] = publish(name)
			s.index[name] = i
		}
	}
	if relist {
		s.relist()
	}
}
