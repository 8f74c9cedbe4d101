package proxy

import (
	"context"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"

	"skiff/proxy/state"
)

// local is by what the pods of one family are known; own are the node's ranges.
func (c *Config) local(v6 bool, own []netip.Prefix) state.Local {
	switch c.DetectLocal.Mode {
	case NodeCIDR:
		return state.Local{Ranges: ofFamily(own, v6)}
	case BridgeInterface:
		return state.Local{Link: c.DetectLocal.Interface}
	case InterfaceNamePrefix:
		return state.Local{Link: c.DetectLocal.Interface, AllLike: true}
	}
	return state.Local{Ranges: ofFamily(c.ClusterCIDRs, v6)}
}

// setPodCIDRs notes the ranges of the node's pods.
func (p *Proxy) setPodCIDRs(n *v1.Node) {
	if p.cfg.DetectLocal.Mode != NodeCIDR {
		return
	}
	var ranges []netip.Prefix
	for _, text := range n.Spec.PodCIDRs {
		if r, err := netip.ParsePrefix(text); err == nil {
			ranges = append(ranges, r.Masked())
		}
	}
	if old := p.podCIDRs.Load(); len(ranges) == 0 || old != nil && slices.Equal(*old, ranges) {
		return // a node that is made anew has none for a while
	}
	p.podCIDRs.Store(&ranges)
	p.poke()
}

// knowsPods waits for the node's ranges where pods are known by them: rules that know
// no pod would masquerade nothing. It is false when ctx ends first.
func (p *Proxy) knowsPods(ctx context.Context) bool {
	if p.cfg.DetectLocal.Mode != NodeCIDR {
		return true
	}
	for told := false; p.podCIDRs.Load() == nil; told = true {
		if !told {
			p.cfg.Log.Info("the node has no podCIDRs yet; the rules of Services wait for them", "node", p.cfg.NodeName)
		}
		select {
		case <-ctx.Done():
			return false
		case <-p.wake:
		}
	}
	return true
}

// follow makes the writers anew when the node's ranges have changed.
func (p *Proxy) follow() error {
	own := p.podCIDRs.Load()
	if own == nil || own == p.following {
		return nil
	}
	for _, f := range p.families {
		w, err := newWriter(p.cfg, p.cfg.local(f.node.IPv6, *own), f.node.IPv6)
		if err != nil {
			return err
		}
		f.writer, f.full = w, true
	}
	p.following = own
	return nil
}
