package garbagecollector

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// absentOwners remembers the last owners that were found missing, so that the
// thousand dependents of one deleted owner cost one question. UIDs are never
// used twice, so an answer stays true, but for the very reference alone: an owner
// that a reference misnames, or seeks in another namespace, may well be there.
type absentOwners struct {
	mu    sync.Mutex // guards all below
	known map[absentKey]struct{}
	order []absentKey
	next  int
}

type absentKey struct {
	apiVersion, kind, name, namespace string
	uid                               types.UID
}

func keyOf(ref metav1.OwnerReference, namespace string) absentKey {
	return absentKey{apiVersion: ref.APIVersion, kind: ref.Kind, name: ref.Name, namespace: namespace, uid: ref.UID}
}

func newAbsentOwners(size int) *absentOwners {
	return &absentOwners{known: map[absentKey]struct{}{}, order: make([]absentKey, size)}
}

func (a *absentOwners) has(ref metav1.OwnerReference, namespace string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.known[keyOf(ref, namespace)]
	return ok
}

func (a *absentOwners) add(ref metav1.OwnerReference, namespace string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := keyOf(ref, namespace)
	if _, ok := a.known[key]; ok {
		return
	}
	delete(a.known, a.order[a.next])
	a.order[a.next] = key
	a.next = (a.next + 1) % len(a.order)
	a.known[key] = struct{}{}
}
