package postgres

import (
	"context"
	"fmt"
	"log/slog"

	"skiff/kine"
)

// Status implements kine.Store.
func (s *Store) Status(ctx context.Context) (kine.Status, error) {
	if err := s.Serving(ctx); err != nil {
		return kine.Status{}, err
	}
	return s.status(ctx)
}

func (s *Store) status(ctx context.Context) (kine.Status, error) {
	st := kine.Status{QuotaBytes: s.cfg.QuotaBytes, Backend: "postgres"}
	var cleaned int64
	err := s.readers.QueryRowContext(ctx, `SELECT revision, compact, `+oldestKept+`, (SELECT (removed + 1) >> 20 FROM skiff_cleaner WHERE id = 1), (SELECT count(*) FROM skiff_current) FROM skiff_meta m WHERE m.id = 1`).
		Scan(&st.Revision, &st.CompactRevision, &st.OldestRevision, &cleaned, &st.Keys)
	if err != nil {
		return kine.Status{}, readError(ctx, err)
	}
	st.OldestRevision = s.kept(st.CompactRevision, st.OldestRevision)
	st.PendingRevisions = max(0, st.OldestRevision-cleaned)
	s.measure(ctx)
	st.SizeBytes, st.FreeBytes = s.size.Load(), s.free.Load()
	return st, nil
}

// Inspect describes a database, which servers may have in use.
func Inspect(ctx context.Context, url string, log *slog.Logger) (kine.Status, error) {
	// What is kept is the servers' setting; that the history begins where it is
	// noted holds for all of them.
	s, err := New(Config{URL: url, Log: log})
	if err != nil {
		return kine.Status{}, err
	}
	s.cfg.Keep.Window = 1
	if s.readers, err = openTransfer(url); err != nil {
		return kine.Status{}, fmt.Errorf("postgres: %w", err)
	}
	defer s.readers.Close()
	return s.status(ctx)
}
