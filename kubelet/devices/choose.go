package devices

import (
	"fmt"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"skiff/kubelet/topology"
)

// demand is what a choice of devices follows from.
type demand struct {
	resource string
	needed   int
	// free are healthy and nobody's; reusable are those of the pod's init
	// containers, which have ended when this container starts.
	free, reusable set
	devices        map[string]*pluginapi.Device
	hint           topology.Hint
	// prefer, when set, asks the plugin.
	prefer func(available, must set, size int) (set, error)
}

// choose decides which devices a container gets: those of earlier init
// containers first, then those near the NUMA nodes of the hint, in both cases in
// the way that the plugin prefers.
func choose(d demand) (set, error) {
	chosen := set{}
	take := func(from set) {
		for _, id := range from.list() {
			if len(chosen) < d.needed {
				chosen[id] = true
			}
		}
	}
	take(d.reusable)
	if len(chosen) == d.needed {
		return chosen, nil
	}
	free := d.free.without(chosen)
	if missing := d.needed - len(chosen); len(free) < missing {
		return nil, fmt.Errorf("requested number of devices unavailable for %s. Requested: %d, Available: %d", d.resource, missing, len(free))
	}
	near, far, anywhere := d.split(free)
	ask := func(from set) error {
		if d.prefer == nil {
			return nil
		}
		preferred, err := d.prefer(from.union(chosen), chosen, d.needed)
		if err != nil {
			return err
		}
		take(preferred.with(from))
		return nil
	}
	if d.needed-len(chosen) < len(near) {
		if err := ask(near); err != nil {
			return nil, err
		}
		take(near)
		return chosen, nil
	}
	take(near)
	if len(chosen) < d.needed {
		if err := ask(free.without(chosen)); err != nil {
			return nil, err
		}
	}
	take(far)
	take(anywhere)
	return chosen, nil
}

// split sorts devices by whether they are at a node of the hint.
func (d demand) split(free set) (near, far, anywhere set) {
	near, far, anywhere = set{}, set{}, set{}
	for id := range free {
		nodes := nodesOf(d.devices[id])
		switch {
		case d.hint.Nodes == 0 || nodes == 0:
			anywhere[id] = true
		case nodes&d.hint.Nodes != 0:
			near[id] = true
		default:
			far[id] = true
		}
	}
	return near, far, anywhere
}

// nodesOf are the NUMA nodes that a device is near.
func nodesOf(d *pluginapi.Device) topology.Mask {
	var out topology.Mask
	for _, n := range d.GetTopology().GetNodes() {
		out |= topology.NewMask(int(n.ID))
	}
	return out
}

// hints are the sets of NUMA nodes that have enough of the devices. Nil means
// that the devices are near no node.
func hints(nodes []int, devices map[string]*pluginapi.Device, free, reusable set, needed int) []topology.Hint {
	placed := false
	for _, d := range devices {
		placed = placed || nodesOf(d) != 0
	}
	if !placed {
		return nil
	}
	return topology.HintsFor(nodes, func(m topology.Mask) (ever, now bool) {
		count := func(ids set) int {
			n := 0
			for id := range ids {
				if nodesOf(devices[id])&m != 0 {
					n++
				}
			}
			return n
		}
		total := 0
		for _, d := range devices {
			if nodesOf(d)&m != 0 {
				total++
			}
		}
		for id := range reusable {
			if at := nodesOf(devices[id]); at != 0 && at&m == 0 {
				return total >= needed, false
			}
		}
		return total >= needed, count(reusable)+count(free.without(reusable)) >= needed
	})
}
