package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skiff/apiserver/request"
	"skiff/cluster/tracing"
	"skiff/kine"
)

// Preconditions guard a write; nil fields do not.
type Preconditions struct {
	UID             *types.UID
	ResourceVersion *string
}

// Create stores a new object and returns it as stored.
func (s *Store) Create(ctx context.Context, namespace, name string, obj runtime.Object) (*Item, error) {
	key := s.Key(namespace, name)
	// Loaded before the first write, the cache has the event of every version
	// that a client can name in a watch.
	if err := s.cache.ensure(ctx); err != nil {
		return nil, statusOf(err, s.gr(), "create", name)
	}
	raw, err := s.codec.Encode(obj)
	if err != nil {
		return nil, statusOf(err, s.gr(), "create", name)
	}
	value, err := s.seal(ctx, key, raw)
	if err != nil {
		return nil, statusOf(err, s.gr(), "create", name)
	}
	lease, err := s.lease(ctx)
	if err != nil {
		return nil, statusOf(err, s.gr(), "create", name)
	}
	traced, end := s.span(ctx, "Create etcd3", key)
	rev, err := s.kine.Create(traced, key, value, lease)
	end(err)
	if err != nil {
		return nil, statusOf(err, s.gr(), "create", name)
	}
	return s.newItem(key, rev, raw), nil
}

func (s *Store) lease(ctx context.Context) (int64, error) {
	if s.leases == nil {
		return 0, nil
	}
	return s.leases.get(ctx, time.Now())
}

// span is one of the database's answer to a request.
func (s *Store) span(ctx context.Context, name, key string) (context.Context, func(error)) {
	return tracing.Start(ctx, name, attribute.String("audit-id", request.AuditIDFrom(ctx)), attribute.String("key", key),
		attribute.String("type", s.res.Kind), attribute.String("resource", s.gr().String()))
}

// Remove is what a Mutate returns to have the object removed as it was shown it.
var Remove = errors.New("the object is to be removed")

// Mutate decides what becomes of an object. cur is the caller's own copy and
// nil when the object does not exist. It returns the object to store, nil to
// leave everything as it is, or the error Remove.
type Mutate func(ctx context.Context, cur runtime.Object) (runtime.Object, error)

// Update applies change to the newest state, again and again until nobody else
// wrote meanwhile. The first try works on the cached object; what it leads to
// counts only when it wrote, or when the database has no newer state. With
// create, a missing object is given to change as nil; without, it is NotFound.
// created tells whether the object is new. An update that changes nothing writes
// nothing. A removed object is returned as it was, at the revision of its end.
func (s *Store) Update(ctx context.Context, namespace, name string, create bool, change Mutate) (item *Item, created bool, err error) {
	key := s.Key(namespace, name)
	cur, fresh, err := s.latest(ctx, key)
	for {
		if err != nil {
			return nil, false, statusOf(err, s.gr(), "update", name)
		}
		if cur == nil && !create {
			if fresh {
				return nil, false, statusOf(kine.ErrKeyNotFound, s.gr(), "update", name)
			}
			cur, err = s.newest(ctx, key)
			fresh = true
			continue
		}
		item, created, err := s.tryUpdate(ctx, key, cur, change)
		var conflict *kine.ConflictError
		switch {
		case err == nil && (fresh || item != cur):
			return item, created, nil
		case errors.As(err, &conflict):
			if cur, err = s.itemOf(ctx, key, conflict.Current); err != nil {
				return nil, false, statusOf(err, s.gr(), "update", name)
			}
			fresh = true
			continue
		case errors.Is(err, kine.ErrKeyExists), errors.Is(err, kine.ErrKeyNotFound):
			if cur, err = s.read(ctx, key); err != nil {
				return nil, false, statusOf(err, s.gr(), "update", name)
			}
			fresh = true
			continue
		case !fresh:
			// A refusal, or that there is nothing to do, may rest on an old state.
			newest, readErr := s.newest(ctx, key)
			if readErr != nil {
				return nil, false, statusOf(readErr, s.gr(), "update", name)
			}
			if revOf(newest) == revOf(cur) {
				return item, created, statusOf(err, s.gr(), "update", name)
			}
			cur, fresh = newest, true
			continue
		}
		return nil, false, statusOf(err, s.gr(), "update", name)
	}
}

func revOf(it *Item) int64 {
	if it == nil {
		return 0
	}
	return it.Rev
}

func (s *Store) tryUpdate(ctx context.Context, key string, cur *Item, change Mutate) (*Item, bool, error) {
	var obj runtime.Object
	var err error
	if cur != nil {
		if obj, err = cur.Copy(); err != nil {
			return nil, false, err
		}
	}
	next, err := change(ctx, obj)
	if errors.Is(err, Remove) && cur != nil {
		traced, end := s.span(ctx, "Delete etcd3", key)
		_, rev, err := s.kine.Delete(traced, key, cur.Rev)
		end(err)
		if err != nil {
			return nil, false, err
		}
		return cur.at(rev), false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if next == nil {
		return cur, false, nil
	}
	raw, err := s.codec.Encode(next)
	if err != nil {
		return nil, false, err
	}
	if cur != nil && string(raw) == string(cur.Raw) {
		if stale, err := s.stale(ctx, key, cur); err != nil || !stale {
			return cur, false, err
		}
	}
	value, err := s.seal(ctx, key, raw)
	if err != nil {
		return nil, false, err
	}
	lease, err := s.lease(ctx)
	if err != nil {
		return nil, false, err
	}
	traced, end := s.span(ctx, "GuaranteedUpdate etcd3", key)
	var rev int64
	if cur == nil {
		rev, err = s.kine.Create(traced, key, value, lease)
	} else {
		rev, err = s.kine.Update(traced, key, value, cur.Rev, lease)
	}
	end(err)
	if err != nil {
		return nil, false, err
	}
	return s.newItem(key, rev, raw), cur == nil, nil
}

// Delete removes an object that the preconditions fit and returns it as it was,
// at the revision of the delete.
func (s *Store) Delete(ctx context.Context, namespace, name string, pre Preconditions) (*Item, error) {
	key := s.Key(namespace, name)
	it, _, err := s.Update(ctx, namespace, name, false, func(_ context.Context, cur runtime.Object) (runtime.Object, error) {
		if err := s.Check(cur, key, name, pre); err != nil {
			return nil, err
		}
		return nil, Remove
	})
	return it, err
}

// Check tests preconditions.
func (s *Store) Check(obj runtime.Object, key, name string, pre Preconditions) error {
	m, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	if pre.UID != nil && *pre.UID != m.GetUID() {
		return invalidObject(s.gr(), name, key, fmt.Sprintf("Precondition failed: UID in precondition: %v, UID in object meta: %v", *pre.UID, m.GetUID()))
	}
	if pre.ResourceVersion != nil && *pre.ResourceVersion != m.GetResourceVersion() {
		return invalidObject(s.gr(), name, key, fmt.Sprintf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", *pre.ResourceVersion, m.GetResourceVersion()))
	}
	return nil
}

// Purge removes an object whose stored bytes cannot be read.
func (s *Store) Purge(ctx context.Context, namespace, name string) error {
	_, _, err := s.kine.Delete(ctx, s.Key(namespace, name), 0)
	return statusOf(err, s.gr(), "delete", name)
}

// latest is the object as the cache has it (fresh false), or when the cache was
// reset as the database has it.
func (s *Store) latest(ctx context.Context, key string) (it *Item, fresh bool, err error) {
	if err := s.cache.ensure(ctx); err != nil {
		return nil, false, err
	}
	if it, err := s.cache.get(key); err == nil {
		return it, false, nil
	}
	it, err = s.read(ctx, key)
	return it, true, err
}

// newest is the object as it is now: from the cache when that has seen every
// write, else from the database.
func (s *Store) newest(ctx context.Context, key string) (*Item, error) {
	rev, err := s.kine.Revision(ctx)
	if err != nil {
		return nil, err
	}
	if s.feed.Revision() >= rev {
		if it, err := s.cache.get(key); err == nil {
			return it, nil
		}
	}
	return s.read(ctx, key)
}

// read asks the database; nil when there is no such object.
func (s *Store) read(ctx context.Context, key string) (*Item, error) {
	traced, end := s.span(ctx, "Get etcd3", key)
	res, err := s.kine.Get(traced, key, kine.ReadOptions{})
	end(err)
	if err != nil || len(res.KVs) == 0 {
		return nil, err
	}
	return s.itemOf(ctx, key, &res.KVs[0])
}

// stale tells whether a value that does not change is to be written all the same. The
// cache knows only what held when it met the value: keys are changed since.
func (s *Store) stale(ctx context.Context, key string, cur *Item) (bool, error) {
	if s.trans == nil || cur.stale {
		return cur.stale, nil
	}
	it, err := s.read(ctx, key)
	if err != nil {
		return false, err
	}
	// Where another write came first, this one finds out when it is done.
	return it == nil || it.stale || it.Rev != cur.Rev, nil
}

func (s *Store) itemOf(ctx context.Context, key string, kv *kine.KeyValue) (*Item, error) {
	if kv == nil {
		return nil, nil
	}
	raw, stale, err := s.open(ctx, key, kv.Value)
	if err != nil {
		return nil, err
	}
	it := s.newItem(key, kv.ModRevision, raw)
	it.stale = stale
	return it, nil
}

// Unsaved is the item that obj would be at a revision: the answer to a dry run.
func (s *Store) Unsaved(namespace, name string, obj runtime.Object, rev int64) (*Item, error) {
	raw, err := s.codec.Encode(obj)
	if err != nil {
		return nil, statusOf(err, s.gr(), "create", name)
	}
	return s.newItem(s.Key(namespace, name), rev, raw), nil
}
