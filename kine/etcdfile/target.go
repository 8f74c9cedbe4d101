package etcdfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"skiff/kine"
	"skiff/kine/transfer"
)

// target gathers the state in another target beside the file, which can go on
// after an interruption, and writes the file at the end.
type target struct {
	transfer.Target
	path string
	// drop removes what was gathered.
	drop   func() error
	leases []kine.Lease
}

// NewTarget is a new file at path. The state is gathered in stage, which drop
// removes.
func NewTarget(path string, stage transfer.Target, drop func() error) transfer.Target {
	return &target{Target: stage, path: path, drop: drop}
}

func (t *target) Begin(ctx context.Context, from string, revision int64) error {
	if _, err := os.Stat(t.path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("etcd snapshot: %w: %s exists already; name a new file", transfer.ErrNotEmpty, t.path)
	}
	return t.Target.Begin(ctx, from, revision)
}

func (t *target) Grant(ctx context.Context, leases []kine.Lease) error {
	t.leases = leases
	return t.Target.Grant(ctx, leases)
}

func (t *target) Finish(ctx context.Context, revision int64) error {
	tmp := t.path + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := Write(ctx, tmp, revision, t.Keys(ctx), t.leases); err != nil {
		return err
	}
	if err := seal(tmp); err != nil {
		return fmt.Errorf("etcd snapshot: %w", err)
	}
	if err := os.Rename(tmp, t.path); err != nil {
		return err
	}
	err := t.Target.Close()
	t.Target = closed{}
	return errors.Join(err, t.drop())
}

// closed is the stage after its end.
type closed struct{ transfer.Target }

func (closed) Close() error { return nil }

// seal adds the checksum that `etcdutl snapshot restore` looks for.
func seal(path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if _, err := f.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return f.Sync()
}
