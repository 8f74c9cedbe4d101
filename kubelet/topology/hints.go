package topology

// HintsFor lists the sets of nodes that could meet a request. fits says of a set
// whether it could ever do so, were nothing given out, and whether it can now.
func HintsFor(nodes []int, fits func(Mask) (ever, now bool)) []Hint {
	out := []Hint{}
	smallest := len(nodes)
	Each(nodes, func(m Mask) {
		ever, now := fits(m)
		if ever {
			smallest = min(smallest, m.Count())
		}
		if now {
			out = append(out, Hint{Nodes: m})
		}
	})
	for i := range out {
		out[i].Preferred = out[i].Nodes.Count() == smallest
	}
	return out
}
