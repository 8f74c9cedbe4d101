package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"os"

	"skiff/kine"
	"skiff/kine/mvcc"
)

// Status implements kine.Store.
func (s *Store) Status(ctx context.Context) (kine.Status, error) {
	if err := s.Serving(ctx); err != nil {
		return kine.Status{}, err
	}
	p, err := s.progress(ctx)
	if err != nil {
		return kine.Status{}, s.readError(ctx, err)
	}
	revision, compact := s.index.Revisions()
	return kine.Status{
		Revision: revision, CompactRevision: compact, OldestRevision: s.kept(compact, s.oldest.Load()), Keys: s.index.Live(),
		PendingRevisions: p.pending(s.kept(p.compact, p.oldest)),
		SizeBytes:        s.usage.size.Load(), FreeBytes: s.usage.freePages.Load() * s.usage.pageSize.Load(),
		QuotaBytes: s.cfg.QuotaBytes, Backend: "sqlite",
	}, nil
}

// pending is how many revisions below what is kept are still to be cleaned.
func (p *progress) pending(kept int64) int64 {
	return max(0, kept-mvcc.Pos(p.removed+1).Revision())
}

// Inspect describes a database file, which a server may have in use.
func Inspect(ctx context.Context, path string) (st kine.Status, err error) {
	if _, err := os.Stat(path); err != nil {
		return st, fmt.Errorf("sqlite: %w", explainFS(err))
	}
	db, err := sql.Open("sqlite", dsn(path, true))
	if err != nil {
		return st, fmt.Errorf("sqlite: %w", err)
	}
	defer db.Close()
	if err := checkOwn(ctx, db); err != nil {
		return st, fmt.Errorf("sqlite: %s: %w", path, explain(err))
	}
	s := Store{readers: db}
	p, err := s.progress(ctx)
	// Who keeps history has noted times; else what is compacted is on its way out.
	var history bool
	if err == nil {
		err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM moment)").Scan(&history)
	}
	kept := p.compact
	if history {
		kept = min(max(p.oldest, mvcc.Pos(p.removed+1).Revision()), p.compact)
	}
	if err == nil {
		err = s.usage.measure(ctx, db)
	}
	if err == nil {
		err = db.QueryRowContext(ctx, "SELECT (SELECT value FROM meta WHERE name='revision'), (SELECT count(*) FROM current)").Scan(&st.Revision, &st.Keys)
	}
	if err != nil {
		return st, fmt.Errorf("sqlite: %s: %w", path, explain(err))
	}
	st.Backend, st.CompactRevision, st.OldestRevision, st.PendingRevisions = "sqlite", p.compact, kept, p.pending(kept)
	st.SizeBytes, st.FreeBytes = s.usage.size.Load(), s.usage.freePages.Load()*s.usage.pageSize.Load()
	if wal, err := os.Stat(path + "-wal"); err == nil {
		st.SizeBytes += wal.Size()
	}
	return st, nil
}
