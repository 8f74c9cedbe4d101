package postgres

import (
	"context"
	"database/sql"
)

// full tells whether what the tables hold has reached the quota.
func (s *Store) full() bool {
	return s.cfg.QuotaBytes > 0 && s.size.Load()-s.free.Load() >= s.cfg.QuotaBytes
}

// measure looks at the size of the tables, where the database tells it.
func (s *Store) measure(ctx context.Context) {
	var size sql.NullInt64
	err := s.readers.QueryRowContext(ctx, `SELECT pg_total_relation_size('skiff_log') + pg_total_relation_size('skiff_current')`).Scan(&size)
	if err != nil {
		s.cfg.Log.Debug("the store's size is not known", "err", err)
		return
	}
	s.size.Store(size.Int64)
	if size.Int64 < s.cfg.QuotaBytes {
		s.free.Store(0)
	}
}

// measureUsed looks at how much of tables that have reached the quota is room that
// removed rows left: they keep their size, and the next writes go there. It reads
// the whole log but for long values, so smaller tables are not looked at.
func (s *Store) measureUsed(ctx context.Context) {
	size := s.size.Load()
	if s.cfg.QuotaBytes == 0 || size < s.cfg.QuotaBytes {
		return
	}
	var used int64
	err := s.readers.QueryRowContext(ctx, `SELECT (SELECT coalesce(sum(`+rowBytes+`), 0)::bigint FROM skiff_log) + (SELECT coalesce(sum(octet_length(key) + 100), 0)::bigint FROM skiff_current)`).Scan(&used)
	if err != nil {
		s.cfg.Log.Debug("the store's free space is not known", "err", err)
		return
	}
	s.free.Store(max(0, size-used))
}
