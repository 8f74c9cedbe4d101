package proxy

import (
	"k8s.io/apimachinery/pkg/types"

	"skiff/proxy/state"
)

// tally is what a family's service ports come to for their health. It looks only
// at the Services that have changed: there may be ten thousand others.
type tally struct {
	// as is the table's version that was counted.
	as   uint64
	rows map[types.NamespacedName]counts
	counts
	// checked are the Services with a health check node port.
	checked map[types.NamespacedName]checked
}

// counts are the service ports whose traffic of a kind stays on the node, where
// none of their endpoints is.
type counts struct{ inside, outside int }

// checked is a health check node port, and how many endpoints answer here.
type checked struct {
	port  uint16
	local int
}

func newTally() *tally {
	return &tally{rows: map[types.NamespacedName]counts{}, checked: map[types.NamespacedName]checked{}}
}

// take counts the changes of the table.
func (t *tally) take(table *state.Table) {
	names, ok := table.Since(t.as)
	if !ok {
		*t = *newTally()
		names = table.Names()
	}
	t.as = table.Version()
	for _, name := range names {
		old := t.rows[name]
		now, check := count(table.Of(name))
		t.inside += now.inside - old.inside
		t.outside += now.outside - old.outside
		if now == (counts{}) {
			delete(t.rows, name)
		} else {
			t.rows[name] = now
		}
		if check.port == 0 {
			delete(t.checked, name)
		} else {
			t.checked[name] = check
		}
	}
}

// count looks at the ports of one Service.
func count(ports []state.Port) (n counts, check checked) {
	for i := range ports {
		p := &ports[i]
		if p.HasAny && len(p.Local) == 0 {
			if p.InternalLocal {
				n.inside++
			}
			if p.ExternalLocal && p.External() {
				n.outside++
			}
		}
		if p.HealthCheckNodePort != 0 {
			check = checked{p.HealthCheckNodePort, max(check.local, p.LocalReady)}
		}
	}
	return n, check
}
