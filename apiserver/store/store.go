// Package store keeps one resource's objects in kine and serves them from a
// watch cache.
//
// Writes go to kine, guarded by the revision that the caller saw. Reads come
// from memory: a Feed watches all of kine once and keeps every resource's cache
// up to date; its watermark makes reads from memory as fresh as reads from the
// database. Only a read of an exact old revision touches the database.
//
// Objects are of the resource's hub type. What Item gives is shared; Copy gives
// the caller an object of its own.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/resources"
	"skiff/kine"
)

// Transformer changes values on their way to and from kine: encryption at rest.
type Transformer interface {
	// ToStorage and FromStorage get the key as authenticated data. stale asks
	// for the value to be written again.
	ToStorage(ctx context.Context, key string, plain []byte) ([]byte, error)
	FromStorage(ctx context.Context, key string, stored []byte) (plain []byte, stale bool, err error)
}

// Config of a Store.
type Config struct {
	Kine kine.Store
	// Feed keeps the cache; it watches the same kine.
	Feed     *Feed
	Resource *resources.Resource
	// Transformer is optional.
	Transformer Transformer
	// TTL in seconds ends objects by themselves (Events: 3600); 0 for never.
	TTL int64
}

// Store is the storage of one resource.
type Store struct {
	kine   kine.Store
	res    *resources.Resource
	codec  *Codec
	prefix string
	trans  Transformer
	cache  *cache
	feed   *Feed
	leases *leaseManager
}

// New checks the configuration.
func New(c Config) (*Store, error) {
	if c.Kine == nil || c.Feed == nil || c.Resource == nil {
		return nil, errors.New("store: Kine, Feed and Resource are required")
	}
	codec, err := NewCodec(c.Resource)
	if err != nil {
		return nil, err
	}
	s := &Store{kine: c.Kine, res: c.Resource, codec: codec, prefix: Prefix(c.Resource), trans: c.Transformer, feed: c.Feed}
	if c.TTL > 0 {
		s.leases = &leaseManager{kine: c.Kine, ttl: c.TTL}
	}
	s.cache = newCache(s, c.Feed)
	return s, nil
}

// Resource is what the store keeps.
func (s *Store) Resource() *resources.Resource { return s.res }

// Codec turns the resource's objects into storage bytes and back.
func (s *Store) Codec() *Codec { return s.codec }

// Load fills the cache before the first reader asks.
func (s *Store) Load(ctx context.Context) error { return s.cache.ensure(ctx) }

// Close takes the store off the feed; its watchers end.
func (s *Store) Close() {
	s.cache.close()
}

// Count is the number of objects, or -1 when the cache is not loaded.
func (s *Store) Count() int { return s.cache.count() }

// Received is the number of changes that the feed brought.
func (s *Store) Received() uint64 { return s.cache.received.Load() }

func (s *Store) gr() schema.GroupResource { return s.res.GroupResource() }

// open undoes the transformer. stale tells that the value is to be written anew
// at the next update, even one that changes nothing.
func (s *Store) open(ctx context.Context, key string, stored []byte) (plain []byte, stale bool, err error) {
	if s.trans == nil {
		if bytes.HasPrefix(stored, []byte("k8s:enc:")) {
			return nil, false, fmt.Errorf("value of %s is encrypted: give the encryption configuration that it was written with", key)
		}
		return stored, false, nil
	}
	if plain, stale, err = s.trans.FromStorage(ctx, key, stored); err != nil {
		return nil, false, fmt.Errorf("value of %s cannot be decrypted: %w", key, err)
	}
	return plain, stale, nil
}

func (s *Store) seal(ctx context.Context, key string, plain []byte) ([]byte, error) {
	if s.trans == nil {
		return plain, nil
	}
	return s.trans.ToStorage(ctx, key, plain)
}
