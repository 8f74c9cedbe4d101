// Package expectation remembers the creations and deletions that a controller
// has asked for until its informer has shown them, so that a stale cache never
// makes it ask twice.
package expectation

import (
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Timeout is how long an expectation holds a controller back: a watch event
// that was lost must not stop it for good.
const Timeout = 5 * time.Minute

// Tracker holds the expectations of one controller, by its objects' keys.
type Tracker struct {
	clock clock.PassiveClock
	mu    sync.Mutex // guards all
	all   map[string]*record
}

type record struct {
	creations int
	deletions map[string]struct{}
	at        time.Time
}

// New makes an empty tracker.
func New(c clock.PassiveClock) *Tracker {
	return &Tracker{clock: c, all: map[string]*record{}}
}

// ExpectCreations notes that n more objects will appear for key.
func (t *Tracker) ExpectCreations(key string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.get(key)
	r.creations += n
	r.at = t.clock.Now()
}

// ExpectDeletions notes that the named objects will go.
func (t *Tracker) ExpectDeletions(key string, objects ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.get(key)
	for _, o := range objects {
		r.deletions[o] = struct{}{}
	}
	r.at = t.clock.Now()
}

// get returns key's record; the caller holds mu.
func (t *Tracker) get(key string) *record {
	r := t.all[key]
	if r == nil {
		r = &record{deletions: map[string]struct{}{}}
		t.all[key] = r
	}
	return r
}

// Created notes that one object appeared, or will never do.
func (t *Tracker) Created(key string) { t.CreatedN(key, 1) }

// CreatedN notes that n objects appeared, or will never do.
func (t *Tracker) CreatedN(key string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.all[key]; r != nil {
		r.creations = max(0, r.creations-n)
	}
}

// Deleted notes that the object went, or will not.
func (t *Tracker) Deleted(key, object string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.all[key]; r != nil {
		delete(r.deletions, object)
	}
}

// Satisfied says whether nothing is awaited for key.
func (t *Tracker) Satisfied(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.all[key]
	if r == nil {
		return true
	}
	if r.creations == 0 && len(r.deletions) == 0 || t.clock.Since(r.at) > Timeout {
		delete(t.all, key)
		return true
	}
	return false
}

// Deleting says whether the object's deletion is awaited.
func (t *Tracker) Deleting(key, object string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.all[key]
	if r == nil {
		return false
	}
	_, ok := r.deletions[object]
	return ok
}

// Forget drops key.
func (t *Tracker) Forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, key)
}
