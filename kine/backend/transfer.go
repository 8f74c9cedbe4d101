package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/etcdfile"
	"skiff/kine/postgres"
	"skiff/kine/sqlite"
	"skiff/kine/transfer"
)

const (
	kineScheme         = "kine-sqlite"
	kinePostgresScheme = "kine-postgres"
	snapshotScheme     = "etcd-snapshot"
	wantedMove         = "want sqlite:///PATH, kine-sqlite:///PATH of k3s, postgres://USER:PASSWORD@HOST/DATABASE, kine-postgres://USER:PASSWORD@HOST/DATABASE of k3s, http(s)://HOST:2379 of etcd, or etcd-snapshot:///PATH"
)

// Source opens what address names to move its state elsewhere: beside the stores
// that New knows these are
//
//	kine-sqlite:///PATH                     the database file of k3s' kine
//	kine-postgres://USER:PASSWORD@HOST/DB   the database of k3s' kine
//	etcd-snapshot:///PATH                   a file made by `etcdctl snapshot save`
//
// A Postgres database or a SQLite file may be k3s' too: that is seen.
func Source(ctx context.Context, address string, o Options) (transfer.Source, error) {
	scheme, path, err := parseMove(address)
	if err != nil {
		return nil, err
	}
	switch scheme {
	case "sqlite", kineScheme:
		return sqlite.OpenSource(ctx, path)
	case "postgres", "postgresql":
		return postgres.OpenSource(ctx, address)
	case kinePostgresScheme:
		return postgres.OpenKineSource(ctx, strings.TrimPrefix(address, "kine-"))
	case snapshotScheme:
		return etcdfile.OpenSource(path)
	}
	return etcd.OpenSource(ctx, etcdConfig(address, o))
}

// Target is what address names as a place for a state. See Source.
func Target(address string, o Options) (transfer.Target, error) {
	scheme, path, err := parseMove(address)
	if err != nil {
		return nil, err
	}
	switch scheme {
	case "sqlite":
		return sqlite.NewTarget(path), nil
	case kineScheme:
		return sqlite.NewKineTarget(path), nil
	case "postgres", "postgresql":
		return postgres.NewTarget(address), nil
	case kinePostgresScheme:
		return postgres.NewKineTarget(strings.TrimPrefix(address, "kine-")), nil
	case snapshotScheme:
		stage := path + ".stage"
		return etcdfile.NewTarget(path, sqlite.NewTarget(stage), func() error {
			return errors.Join(os.Remove(stage+".transfer"), os.Remove(stage+".lock"))
		}), nil
	}
	return etcd.NewTarget(etcdConfig(address, o))
}

// Inspect describes a store, which servers may have in use.
func Inspect(ctx context.Context, address string, o Options) (st kine.Status, err error) {
	scheme, path, err := parseMove(address)
	if err != nil {
		return st, err
	}
	switch scheme {
	case "sqlite":
		return sqlite.Inspect(ctx, path)
	case "postgres", "postgresql":
		return postgres.Inspect(ctx, address, o.Log)
	case "http", "https", "unix":
		return etcd.Inspect(ctx, etcdConfig(address, o))
	}
	return st, fmt.Errorf("what has the scheme %q is no store of skiff: move its state into one with `skiff migrate`", scheme)
}

// parseMove is the scheme of an address, and the path of one that names a file.
func parseMove(address string) (scheme, path string, err error) {
	scheme, rest, ok := strings.Cut(address, ":")
	if !ok {
		return "", "", fmt.Errorf("%q has no scheme: %s", Redact(address), wantedMove)
	}
	switch scheme {
	case "sqlite", kineScheme, snapshotScheme:
		path, err = filePath(scheme, rest)
		return scheme, path, err
	case "postgres", "postgresql", kinePostgresScheme, "http", "https", "unix":
		return scheme, "", nil
	}
	return "", "", fmt.Errorf("%q has the scheme %q: %s", Redact(address), scheme, wantedMove)
}

func etcdConfig(address string, o Options) etcd.Config {
	return etcd.Config{
		Endpoints: strings.Split(address, ","), TLS: o.TLS, Username: o.Username, Password: o.Password,
		HistoryWindow: o.HistoryWindow, CompactInterval: o.CompactInterval, Limits: o.Limits, Log: o.Log,
	}
}
