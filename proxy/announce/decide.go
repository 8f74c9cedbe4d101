package announce

import "slices"

// verdict is what is known of a node's health.
type verdict int

const (
	// unknown is a node that has never answered: it may have no health check, so that
	// its silence says nothing.
	unknown verdict = iota
	alive
	dead
)

// decide tells whether a node announces an address, of which rank are the first
// candidates, and of which nodes it has to know the health for that.
//
// The address is the first one's, and when that is dead the next one's that is alive:
// long before the API server calls a node not ready. The nodes judge for themselves, so
// who is not known to be dead is left what it has, who finds itself dead gives it up to
// one that is alive, and who does not find itself alive takes nothing over.
func decide(rank []string, self string, of func(node string) verdict) (mine bool, watch []string) {
	at := slices.Index(rank, self)
	if at < 0 {
		return false, nil
	}
	if len(rank) == 1 {
		return true, nil
	}
	watch = append(watch, self)
	if at == 0 {
		if of(self) != dead {
			return true, watch
		}
		for _, other := range rank[1:] {
			watch = append(watch, other)
			if of(other) == alive {
				return false, watch
			}
		}
		return true, watch
	}
	for i := at - 1; i > 0; i-- {
		watch = append(watch, rank[i])
		if of(rank[i]) == alive {
			return false, watch
		}
	}
	watch = append(watch, rank[0])
	return of(rank[0]) == dead && of(self) == alive, watch
}

// silent is how many questions in a row a node leaves open to be dead.
const silent = 3

// pulse is what a node's answers were so far.
type pulse struct {
	answered bool
	missed   int
	verdict  verdict
}

// next is the pulse after one more question. sure tells that a silence can only be the
// node's: who has lost its own way to the cluster judges nobody.
func (p pulse) next(ok, sure bool) pulse {
	if ok {
		return pulse{answered: true, verdict: alive}
	}
	p.missed = min(p.missed+1, silent)
	if p.answered && p.missed == silent && sure {
		p.verdict = dead
	}
	return p
}
