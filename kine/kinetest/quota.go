package kinetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"skiff/kine"
)

// Quota fills a store that has a quota of some MiB: puts are refused then and nothing
// else is, and deletes with a compaction make room again, also when one delete of
// everything is the last revision. settle does what the store does beside writes.
func Quota(t *testing.T, open func(t *testing.T) (s kine.Store, settle func())) {
	for _, c := range []struct {
		name  string
		clear func(ctx context.Context, s kine.Store, n int) (last int64, err error)
	}{
		{"one by one", func(ctx context.Context, s kine.Store, n int) (last int64, err error) {
			for i := range n {
				if _, last, err = s.Delete(ctx, fmt.Sprintf("/q/%d", i), 0); err != nil {
					return 0, err
				}
			}
			return last, nil
		}},
		{"all at once", func(ctx context.Context, s kine.Store, _ int) (last int64, err error) {
			res, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpDelete, Range: kine.PrefixRange("/q/")}}})
			return res.Revision, err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, settle := open(t)
			ctx := testContext(t)
			n := 0
			var err error
			for err == nil && n < 1000 {
				if _, err = s.Create(ctx, fmt.Sprintf("/q/%d", n), noise(50_000), 0); err == nil {
					n++
				}
				settle()
			}
			if !errors.Is(err, kine.ErrNoSpace) {
				t.Fatalf("after %d puts: %v, want ErrNoSpace", n, err)
			}
			if res, err := s.Count(ctx, kine.PrefixRange("/q/"), kine.ReadOptions{}); err != nil || res.Count != int64(n) {
				t.Errorf("count at the quota: %d, %v", res.Count, err)
			}
			last, err := c.clear(ctx, s, n)
			if err != nil {
				t.Fatalf("delete at the quota: %v", err)
			}
			if err := s.Compact(ctx, last); err != nil {
				t.Fatalf("compaction at the quota: %v", err)
			}
			Eventually(t, "put with room again", func() bool {
				settle()
				_, err := s.Create(ctx, "/q/again", nil, 0)
				return err == nil
			})
		})
	}
}

// noise is a value that does not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}
