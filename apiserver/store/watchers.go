package store

import (
	"iter"
	"sync"

	"k8s.io/apimachinery/pkg/watch"
)

// A watcher that lets this many events pile up is ended: its client lists or
// watches anew instead of holding the server's memory.
const maxQueuedEvents = 20000

// Change is an event as one watcher sees it through its predicate.
type Change struct {
	Type watch.EventType
	// Item is the object; nil for a bookmark.
	Item *Item
	// event is what the predicate's slow part has still to see; Type and Item
	// are not yet set then.
	event *event
}

// queue is the part of a watcher that the cache writes to.
type queue struct {
	pred  Predicate
	scope scopeKey
	value string
	// after is the revision that the watch began at: older events are known.
	after int64

	// union: the queue is in the indexes of many resources.
	union bool

	mu      sync.Mutex
	changes []Change
	err     error
	lost    []*Store
	wake    chan struct{}
}

// push is called with the cache's lock held.
func (q *queue) push(c Change) {
	q.mu.Lock()
	if q.err == nil {
		if len(q.changes) >= maxQueuedEvents {
			q.err = errSlow
			q.changes = nil
		} else {
			q.changes = append(q.changes, c)
		}
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) end(err error) {
	q.mu.Lock()
	if q.err == nil {
		q.err = err
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// leave is called when a resource has no more to tell: that is the end, but for
// a queue that is in other indexes too.
func (q *queue) leave(s *Store, err error) {
	if !q.union {
		q.end(err)
		return
	}
	q.mu.Lock()
	q.lost = append(q.lost, s)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take empties the queue. err is set when it is empty and over.
func (q *queue) take(spare []Change) ([]Change, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.changes) == 0 {
		return nil, q.err
	}
	out := q.changes
	q.changes = spare[:0]
	return out, nil
}

// offer pushes e in the form in which the predicate sees it, if it does.
func (q *queue) offer(s *Store, e *event) {
	if e.rev <= q.after {
		return
	}
	cur := e.cur != nil && s.matchesFast(&q.pred, e.cur)
	prev := e.prev != nil && s.matchesFast(&q.pred, e.prev)
	if q.pred.Slow != nil {
		if cur || prev {
			q.push(Change{event: e})
		}
		return
	}
	if c, ok := changeOf(e, cur, prev); ok {
		q.push(c)
	}
}

// changeOf is an event as seen by one who selects the object as it is and as it
// was, or not.
func changeOf(e *event, cur, prev bool) (Change, bool) {
	switch {
	case cur && prev:
		return Change{Type: watch.Modified, Item: e.cur}, true
	case cur:
		return Change{Type: watch.Added, Item: e.cur}, true
	case prev:
		return Change{Type: watch.Deleted, Item: e.last()}, true
	}
	return Change{}, false
}

// decide asks the slow part of the predicate of changes, in place.
func (q *queue) decide(s *Store, changes []Change) []Change {
	if q.pred.Slow == nil {
		return changes
	}
	out := changes[:0]
	for _, c := range changes {
		e := c.event
		if c, ok := changeOf(e, e.cur != nil && s.matches(&q.pred, e.cur), e.prev != nil && s.matches(&q.pred, e.prev)); ok {
			out = append(out, c)
		}
	}
	return out
}

// scopeKey is what a watcher looks at: everything, a namespace, one name.
type scopeKey struct{ namespace, name string }

// watcherIndex finds the watchers that an event can concern: by namespace and
// name, or by the value of the resource's index field (a kubelet's spec.nodeName).
type watcherIndex struct {
	byScope map[scopeKey]map[*queue]struct{}
	byValue map[string]map[*queue]struct{}
	n       int
}

// The selectable field that most watchers of a kind ask by.
const indexField = "spec.nodeName"

func (x *watcherIndex) add(q *queue) {
	if v, ok := q.pred.exact(indexField); ok && v != "" {
		q.value = v
		if x.byValue == nil {
			x.byValue = map[string]map[*queue]struct{}{}
		}
		if x.byValue[v] == nil {
			x.byValue[v] = map[*queue]struct{}{}
		}
		x.byValue[v][q] = struct{}{}
	} else {
		if x.byScope == nil {
			x.byScope = map[scopeKey]map[*queue]struct{}{}
		}
		if x.byScope[q.scope] == nil {
			x.byScope[q.scope] = map[*queue]struct{}{}
		}
		x.byScope[q.scope][q] = struct{}{}
	}
	x.n++
}

func (x *watcherIndex) remove(q *queue) {
	set := x.byScope[q.scope]
	if q.value != "" {
		set = x.byValue[q.value]
	}
	if _, ok := set[q]; !ok {
		return
	}
	delete(set, q)
	x.n--
	if len(set) > 0 {
		return
	}
	if q.value != "" {
		delete(x.byValue, q.value)
	} else {
		delete(x.byScope, q.scope)
	}
}

func (x *watcherIndex) all() iter.Seq[*queue] {
	return func(yield func(*queue) bool) {
		for _, set := range x.byScope {
			for q := range set {
				if !yield(q) {
					return
				}
			}
		}
		for _, set := range x.byValue {
			for q := range set {
				if !yield(q) {
					return
				}
			}
		}
	}
}

// deliver hands e to the watchers it concerns.
func (x *watcherIndex) deliver(s *Store, e *event) {
	if x.n == 0 {
		return
	}
	it := e.cur
	if it == nil {
		it = e.prev
	}
	if len(x.byScope) > 0 {
		ns, name := s.splitKey(it.Key)
		scopes := [4]scopeKey{{}, {ns, ""}, {"", name}, {ns, name}}
		for i, scope := range scopes {
			if ns == "" && (i == 1 || i == 3) {
				continue
			}
			for q := range x.byScope[scope] {
				q.offer(s, e)
			}
		}
	}
	if len(x.byValue) == 0 {
		return
	}
	now, before := "", ""
	if e.cur != nil {
		now = e.cur.fields[indexField]
	}
	if e.prev != nil {
		before = e.prev.fields[indexField]
	}
	for q := range x.byValue[now] {
		if q.inNamespace(s, it) {
			q.offer(s, e)
		}
	}
	if before != now {
		for q := range x.byValue[before] {
			if q.inNamespace(s, it) {
				q.offer(s, e)
			}
		}
	}
}

func (q *queue) inNamespace(s *Store, it *Item) bool {
	if q.scope == (scopeKey{}) {
		return true
	}
	ns, name := s.splitKey(it.Key)
	return (q.scope.namespace == "" || q.scope.namespace == ns) && (q.scope.name == "" || q.scope.name == name)
}
