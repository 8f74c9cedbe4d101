package garbagecollector

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// absentOwners remembers the last owners that were found missing, so that the
// thousand dependents of one deleted owner cost one question. UIDs are never
// used twice, so an answer stays true.
type absentOwners struct {
	mu    sync.Mutex // guards all below
	known map[absentKey]struct{}
	order []absentKey
	next  int
}

type absentKey struct {
	uid       types.UID
	namespace string
}

func newAbsentOwners(size int) *absentOwners {
	return &absentOwners{known: map[absentKey]struct{}{}, order: make([]absentKey, size)}
}

func (a *absentOwners) has(uid types.UID, namespace string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.known[absentKey{uid, namespace}]
	return ok
}

func (a *absentOwners) add(uid types.UID, namespace string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := absentKey{uid, namespace}
	if _, ok := a.known[key]; ok {
		return
	}
	delete(a.known, a.order[a.next])
	a.order[a.next] = key
	a.next = (a.next + 1) % len(a.order)
	a.known[key] = struct{}{}
}
