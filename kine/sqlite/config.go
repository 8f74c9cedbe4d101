// Package sqlite is the store on one machine: a revisioned key-value log in a
// SQLite file.
//
// One goroutine writes. It takes what is queued, plans it over the index in
// memory, commits it in one transaction with synchronous=FULL, makes it visible
// and only then answers: an acknowledged write survives power loss, and the cost
// of the disk's flush is shared by all who wait for it. Readers use connections
// of their own on the write-ahead log and are never blocked.
package sqlite

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"skiff/kine/history"
	"skiff/kine/mvcc"
)

// Config of a store.
type Config struct {
	// Path of the database file. Its folder is made when missing. Required.
	Path string
	// Limits of a request.
	Limits mvcc.Limits
	// HistoryWindow is how long every revision stays readable; default 5 minutes.
	HistoryWindow time.Duration
	// CompactInterval is how often the window is moved on; default 1 minute.
	CompactInterval time.Duration
	// Keep is what is kept of the past for the history commands.
	Keep history.Retention
	// QuotaBytes is the size of the file at which puts are refused; 0 for none.
	QuotaBytes int64
	// CacheBytes bounds the recent values that are kept in memory; default 32 MiB.
	CacheBytes int
	// Progress is how often idle watchers are told the revision; default 5 s.
	Progress time.Duration
	// At, when set, is told of each Point that the writer passes: for tests that
	// end the process there.
	At func(Point)
	// Log; default slog.Default.
	Log *slog.Logger
}

// Point is a place in the writer's work.
type Point string

// The points, in the order in which a write passes them.
const (
	BeforeCommit  Point = "before-commit"
	AfterCommit   Point = "after-commit"
	AfterPublish  Point = "after-publish"
	BeforeClean   Point = "before-clean"
	InClean       Point = "in-clean"
	AfterClean    Point = "after-clean"
	BeforeVacuum  Point = "before-vacuum"
	AfterCopying  Point = "after-checkpoint"
	BeforeCopying Point = "before-checkpoint"
)

// Points are all of them.
func Points() []Point {
	return []Point{BeforeCommit, AfterCommit, AfterPublish, BeforeClean, InClean, AfterClean, BeforeVacuum, BeforeCopying, AfterCopying}
}

func (s *Store) at(p Point) {
	if s.cfg.At != nil {
		s.cfg.At(p)
	}
}

func (c Config) complete() (Config, error) {
	var errs []error
	if c.Path == "" {
		errs = append(errs, errors.New("sqlite: Path is empty: give the database file"))
	} else if abs, err := filepath.Abs(c.Path); err != nil {
		errs = append(errs, fmt.Errorf("sqlite: path %s: %w", c.Path, err))
	} else {
		c.Path = abs
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("sqlite: %w", err))
	}
	c.Limits = c.Limits.WithDefaults()
	if err := c.Keep.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("sqlite: %w", err))
	}
	if c.HistoryWindow == 0 {
		c.HistoryWindow = 5 * time.Minute
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 32 << 20
	}
	if c.CompactInterval == 0 {
		c.CompactInterval = time.Minute
	}
	for name, value := range map[string]int64{
		"HistoryWindow": int64(c.HistoryWindow), "CompactInterval": int64(c.CompactInterval),
		"QuotaBytes": c.QuotaBytes, "CacheBytes": int64(c.CacheBytes), "Progress": int64(c.Progress),
	} {
		if value < 0 {
			errs = append(errs, fmt.Errorf("sqlite: %s is %d: it must not be negative; use 0 for the default", name, value))
		}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, errors.Join(errs...)
}
