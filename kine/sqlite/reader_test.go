package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/kinetest"
)

// Who reads the file for long, as a backup does, keeps the write-ahead log from
// being used anew. It grows then, and the writes go on.
//
// Covers: store.compaction
func TestLongReaderHoldsNobodyUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := newStore(t, path)
	kinetest.Start(t, s)
	create(t, s, "/first", "x")
	db, err := sql.Open("sqlite", dsn(path, true))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM log").Scan(&n); err != nil { // the snapshot is taken now
		t.Fatal(err)
	}
	value := make([]byte, 1<<20)
	for i := range (longLog + 2*checkpointPages) * 4096 >> 20 { // more than what asks for a new log
		// Well below the time for which SQLite would wait for the reader.
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := s.Txn(ctx, kine.Txn{Success: []kine.Op{{Type: kine.OpPut, Range: kine.Range{Start: fmt.Sprintf("/k/%d", i%4)}, Value: value}}})
		cancel()
		if err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	kinetest.Eventually(t, "the log is short again once nobody reads", func() bool {
		create(t, s, fmt.Sprintf("/after/%d", time.Now().UnixNano()), "x")
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size() < longLog/2*4096
	})
}
