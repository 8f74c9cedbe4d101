package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/kinetest"
	"skiff/kine/postgres/pgtest"
)

// Reads of a few keys among many, and among many old versions, find them by an index:
// none reads a whole table, and neither does a write. (A read of an old revision goes through the log since
// then, as a whole where that is much of it.)
func TestReadsUseIndexes(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	s := newStore(t, server.Database(t))
	kinetest.Start(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 3 {
		for i := 0; i < 5000; i += 100 {
			var txn kine.Txn
			for k := range 100 {
				txn.Success = append(txn.Success, kine.Op{Type: kine.OpPut, Range: kine.Range{Start: fmt.Sprintf("/registry/%d/%05d", (i+k)%500, i+k)}, Value: make([]byte, 100)})
			}
			if _, err := s.Txn(ctx, txn); err != nil {
				t.Fatal(err)
			}
		}
	}
	scans := func() (whole, index int64) {
		t.Helper()
		err := s.readers.QueryRowContext(ctx, `SELECT sum(seq_scan)::bigint, sum(coalesce(idx_scan, 0))::bigint FROM pg_stat_user_tables
			WHERE relname IN ('skiff_log', 'skiff_current') AND schemaname = current_schema()`).Scan(&whole, &index)
		if err != nil {
			t.Fatal(err)
		}
		return whole, index
	}
	// A server process tells of its scans once it is idle for a second.
	settled := func() (whole, index int64) {
		t.Helper()
		last, since := int64(-1), time.Now()
		kinetest.Eventually(t, "the database has counted its scans", func() bool {
			if whole, index = scans(); whole+index != last {
				last, since = whole+index, time.Now()
			}
			return time.Since(since) > 2*time.Second
		})
		return whole, index
	}
	// The plans of writes are made while the tables are small.
	if !s.function {
		t.Error("groups are not stored by the function")
	}
	if whole, _ := settled(); whole > 20 {
		t.Errorf("150 writes went through a whole table %d times", whole)
	}
	if _, err := s.readers.ExecContext(ctx, "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	before, indexed := settled()
	for range 20 {
		r := kine.PrefixRange("/registry/7/")
		for _, o := range []kine.ReadOptions{{}, {Limit: 5}} {
			if res, err := s.List(ctx, r, o); err != nil || len(res.KVs) == 0 {
				t.Fatal(len(res.KVs), err)
			}
		}
		if _, err := s.Get(ctx, "/registry/7/00007", kine.ReadOptions{}); err != nil {
			t.Fatal(err)
		}
		var names []string
		for i := range maxKeys {
			names = append(names, fmt.Sprintf("/registry/%d/%05d", i, i))
		}
		if got, err := s.readKeys(ctx, names); err != nil || len(got.found) != maxKeys {
			t.Fatal(len(got.found), err)
		}
		if res, err := s.Count(ctx, r, kine.ReadOptions{}); err != nil || res.Count != 10 {
			t.Fatal(res.Count, err)
		}
	}
	// It may take its time: then those of the index come with those of the table.
	kinetest.Eventually(t, "the database has counted these reads", func() bool {
		_, index := scans()
		return index-indexed >= 60
	})
	whole, _ := settled()
	// A kind of read that goes through a table does so 20 times; what runs beside them
	// may do it now and then.
	if n := whole - before; n > 10 {
		t.Errorf("%d reads went through a whole table", n)
	}
}
