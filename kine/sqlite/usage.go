package sqlite

import (
	"context"
	"database/sql"
	"sync/atomic"
)

// usage is the store's size, measured once a second.
type usage struct{ size, freePages, pageSize atomic.Int64 }

func (u *usage) measure(ctx context.Context, db *sql.DB) error {
	var pages, free, size int64
	err := db.QueryRowContext(ctx, "SELECT (SELECT page_count FROM pragma_page_count), (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_size FROM pragma_page_size)").Scan(&pages, &free, &size)
	if err != nil {
		return err
	}
	u.size.Store(pages * size)
	u.freePages.Store(free)
	u.pageSize.Store(size)
	return nil
}

// full tells whether the live part of the file has reached the quota.
func (u *usage) full(quota int64) bool {
	return quota > 0 && u.size.Load()-u.freePages.Load()*u.pageSize.Load() >= quota
}
