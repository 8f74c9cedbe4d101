package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"skiff/kine"
)

// FromStore is a source over a store that serves: its state at the newest
// revision, which stays readable for the store's history window.
func FromStore(ctx context.Context, s kine.Store, close func() error) (Source, error) {
	revision, err := s.Revision(ctx)
	if err != nil {
		return nil, errors.Join(err, close())
	}
	return &storeSource{s: s, revision: revision, close: close}, nil
}

type storeSource struct {
	s        kine.Store
	revision int64
	close    func() error
}

func (s *storeSource) Revision() int64 { return s.revision }
func (s *storeSource) Quiet() bool     { return false }
func (s *storeSource) Close() error    { return s.close() }

func (s *storeSource) Keys(ctx context.Context) iter.Seq2[kine.KeyValue, error] {
	return Keys(ctx, s.s, s.revision)
}

func (s *storeSource) Leases(ctx context.Context) ([]kine.Lease, error) {
	ids, err := s.s.Leases(ctx)
	if err != nil {
		return nil, err
	}
	var out []kine.Lease
	for _, id := range ids {
		l, err := s.s.TimeToLive(ctx, id, false)
		if errors.Is(err, kine.ErrLeaseNotFound) {
			continue // it ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// page is how many keys one read has.
const page = 1000

// Keys reads every key of a store at a revision (0: the newest), in key order.
func Keys(ctx context.Context, s kine.Store, revision int64) iter.Seq2[kine.KeyValue, error] {
	return func(yield func(kine.KeyValue, error) bool) {
		r := kine.Range{Start: "\x00", End: kine.Unbounded}
		for {
			res, err := s.List(ctx, r, kine.ReadOptions{Revision: revision, Limit: page})
			if errors.Is(err, kine.ErrCompacted) {
				err = fmt.Errorf("the state was compacted before all of it was read; start again, it goes on where it was: %w", err)
			}
			if err != nil {
				yield(kine.KeyValue{}, err)
				return
			}
			if revision == 0 {
				revision = res.Revision
			}
			for i := range res.KVs {
				if !yield(res.KVs[i], nil) {
					return
				}
			}
			if !res.More {
				return
			}
			r.Start = res.KVs[len(res.KVs)-1].Key + "\x00"
		}
	}
}
