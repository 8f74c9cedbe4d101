package store

import (
	"context"
	"time"

	"skiff/kine"
)

const (
	// unreadRetry is how long what could not be read is left alone.
	unreadRetry = time.Second
	// unreadTimeout bounds one more try.
	unreadTimeout = 5 * time.Second
)

// item makes an item of a stored value. One that cannot be decrypted is kept as it
// is stored: its key service may be away.
func (c *cache) item(ctx context.Context, kv *kine.KeyValue) *Item {
	raw, stale, err := c.s.open(ctx, kv.Key, kv.Value)
	if err != nil {
		c.feed.log.Error("stored object cannot be read", "key", kv.Key, "err", err)
		it := c.s.newItem(kv.Key, kv.ModRevision, kv.Value)
		it.unread = err
		return it
	}
	it := c.s.newItem(kv.Key, kv.ModRevision, raw)
	it.stale = stale
	return it
}

// readAgain tries the items that could not be read. Readers bring it about, one of
// them at a time.
func (c *cache) readAgain(ctx context.Context) {
	c.mu.Lock()
	if c.state != ready || !c.unread || time.Since(c.tried) <= unreadRetry {
		c.mu.Unlock()
		return
	}
	c.tried, c.unread = time.Now(), false
	var unread []*Item
	c.items.Ascend(func(it *Item) bool {
		if it.unread != nil {
			unread = append(unread, it)
		}
		return true
	})
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, unreadTimeout)
	defer cancel()
	read := map[*Item]*Item{}
	for _, it := range unread {
		raw, stale, err := c.s.open(ctx, it.Key, it.Raw)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			continue
		}
		read[it] = c.s.newItem(it.Key, it.Rev, raw)
		read[it].stale = stale
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != ready {
		return
	}
	for old, it := range read {
		if now, ok := c.items.Get(old); ok && now == old {
			c.items.ReplaceOrInsert(it)
			c.snap = nil
		}
	}
	c.unread = c.unread || len(read) < len(unread)
	if len(read) == 0 {
		return
	}
	c.feed.log.Info("stored objects can be read again", "resource", c.s.gr(), "objects", len(read))
	// Watches that begin in the past see them as well. Events are shared: those of
	// before stay as they are.
	window := make([]*event, len(c.window))
	for i, e := range c.window {
		window[i] = e
		if read[e.cur] != nil || read[e.prev] != nil {
			window[i] = &event{rev: e.rev, at: e.at, cur: reread(read, e.cur), prev: reread(read, e.prev)}
		}
	}
	c.window = window
}

func reread(read map[*Item]*Item, it *Item) *Item {
	if now := read[it]; now != nil {
		return now
	}
	return it
}
