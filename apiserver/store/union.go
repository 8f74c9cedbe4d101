package store

import (
	"context"
	"errors"
)

// Union is one watch over many resources. It costs a place in the index of each
// resource's watchers, and one queue for all of them: a thousand resources that
// nobody touches cost next to nothing.
//
// It belongs to one goroutine.
type Union struct {
	q       *queue
	members map[*Codec]*Store
	spare   []Change
}

// NewUnion is a watch over nothing yet. It holds resources until Close.
func NewUnion() *Union {
	return &Union{q: &queue{union: true, wake: make(chan struct{}, 1)}, members: map[*Codec]*Store{}}
}

// Join adds a resource and gives its objects as they are; what becomes of them
// later comes through Next.
func (u *Union) Join(ctx context.Context, s *Store) ([]*Item, error) {
	for try := 0; ; try++ {
		items, err := u.join(ctx, s)
		if errors.Is(err, errNotReady) && try < readRetries {
			continue
		}
		if err != nil {
			return nil, statusOf(err, s.gr(), "watch", "")
		}
		return items, nil
	}
}

func (u *Union) join(ctx context.Context, s *Store) ([]*Item, error) {
	if err := s.cache.ensure(ctx); err != nil {
		return nil, err
	}
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != ready {
		return nil, errNotReady
	}
	items := make([]*Item, 0, c.items.Len())
	c.items.Ascend(func(it *Item) bool {
		items = append(items, it)
		return true
	})
	c.watchers.add(u.q)
	u.members[s.codec] = s
	return items, nil
}

// Leave takes a resource out.
func (u *Union) Leave(s *Store) {
	s.cache.mu.Lock()
	s.cache.watchers.remove(u.q)
	s.cache.mu.Unlock()
	delete(u.members, s.codec)
}

// Of is the member that a change is of; nil when it has left.
func (u *Union) Of(c Change) *Store { return u.members[c.Item.codec] }

// Next waits for changes, or for another to be closed. lost are members that
// have left by themselves, after the changes: their store was closed, or has to
// load anew. The changes are valid until the next Next.
func (u *Union) Next(ctx context.Context, another <-chan struct{}) (changes []Change, lost []*Store, err error) {
	clear(u.spare)
	for {
		changes, lost, err := u.q.takeUnion(u.spare)
		if err != nil {
			return nil, nil, err
		}
		if len(changes) > 0 {
			u.spare = changes // the queue fills the other slice now
		}
		if len(changes) > 0 || len(lost) > 0 {
			return changes, lost, nil
		}
		select {
		case <-u.q.wake:
		case <-another:
			return nil, nil, nil
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// Forget drops members that Next has told of as lost.
func (u *Union) Forget(lost []*Store) {
	for _, s := range lost {
		delete(u.members, s.codec)
	}
}

// Close ends the watch.
func (u *Union) Close() {
	for _, s := range u.members {
		s.cache.mu.Lock()
		s.cache.watchers.remove(u.q)
		s.cache.mu.Unlock()
	}
	u.q.end(errWatchClosed)
}

// takeUnion empties the queue of a union.
func (q *queue) takeUnion(spare []Change) ([]Change, []*Store, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil, nil, q.err
	}
	changes, lost := q.changes, q.lost
	q.lost = nil
	if len(changes) > 0 {
		q.changes = spare[:0]
	}
	return changes, lost, nil
}
