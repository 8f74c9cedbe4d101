package cpus

import (
	"fmt"
	"strconv"
)

// The policies.
const (
	None   = "none"
	Static = "static"
)

// Options refine the static policy.
type Options struct {
	// FullCores refuses requests that leave part of a core over.
	FullCores bool
	// AcrossNodes takes equal parts of several NUMA nodes, where one is too small.
	AcrossNodes bool
	// BySocket is content with CPUs of one socket, whatever its NUMA nodes.
	BySocket bool
	// AcrossCores takes single threads of many cores.
	AcrossCores bool
	// StrictReservation keeps all containers off the reserved CPUs.
	StrictReservation bool
	// ByCache keeps to few shared caches.
	ByCache bool
}

const AlphaOptions = "CPUManagerPolicyAlphaOptions"

// ParseOptions reads the options as a KubeletConfiguration has them. Some need a
// feature gate.
func ParseOptions(in map[string]string, gates map[string]bool) (Options, error) {
	var out Options
	for name, value := range in {
		field, alpha := (*bool)(nil), false
		switch name {
		case "full-pcpus-only":
			field = &out.FullCores
		case "distribute-cpus-across-numa":
			field = &out.AcrossNodes
		case "strict-cpu-reservation":
			field = &out.StrictReservation
		case "prefer-align-cpus-by-uncorecache":
			field = &out.ByCache
		case "align-by-socket":
			field, alpha = &out.BySocket, true
		case "distribute-cpus-across-cores":
			field, alpha = &out.AcrossCores, true
		default:
			return out, fmt.Errorf("unknown CPU Manager Policy option: %q", name)
		}
		if alpha && !gates[AlphaOptions] {
			return out, fmt.Errorf("CPU Manager Policy Alpha-level Options not enabled, but option %q provided: set the feature gate %s", name, AlphaOptions)
		}
		var err error
		if *field, err = strconv.ParseBool(value); err != nil {
			return out, fmt.Errorf("bad value for option %q: %w", name, err)
		}
	}
	for _, pair := range []struct {
		both        bool
		first, next string
	}{
		{out.FullCores && out.AcrossCores, "full-pcpus-only", "distribute-cpus-across-cores"},
		{out.AcrossNodes && out.AcrossCores, "distribute-cpus-across-numa", "distribute-cpus-across-cores"},
		{out.ByCache && out.AcrossCores, "prefer-align-cpus-by-uncorecache", "distribute-cpus-across-cores"},
		{out.ByCache && out.AcrossNodes, "prefer-align-cpus-by-uncorecache", "distribute-cpus-across-numa"},
	} {
		if pair.both {
			return out, fmt.Errorf("static policy options %s and %s can not be used at the same time", pair.first, pair.next)
		}
	}
	return out, nil
}
