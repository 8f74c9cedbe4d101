// Package backend makes the store that a URL names.
package backend

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/history"
	"skiff/kine/mvcc"
	"skiff/kine/postgres"
	"skiff/kine/sqlite"
)

// Options hold for every backend; what is zero is the backend's default.
type Options struct {
	// TLS is for etcd's https endpoints: client certificate and authorities.
	// Postgres has it in its URL (sslmode, sslrootcert, sslcert, sslkey).
	TLS *tls.Config
	// Username and Password are for an etcd with authentication.
	Username, Password string
	// QuotaBytes is the size at which puts are refused; 0 for none. An etcd
	// cluster has its own.
	QuotaBytes int64
	// HistoryWindow is how long every revision stays readable, and
	// CompactInterval is how often that window is moved on.
	HistoryWindow, CompactInterval time.Duration
	// Keep is what is kept of the past for the history commands. etcd keeps none.
	Keep history.Retention
	// Limits of a request.
	Limits mvcc.Limits
	Log    *slog.Logger
}

const wanted = "want sqlite:///PATH, postgres://USER:PASSWORD@HOST/DATABASE, or http(s)://HOST:2379 of etcd, several separated by commas"

// New makes the store that address names:
//
//	sqlite:///PATH                       a file on this machine, one server
//	postgres://USER:PASSWORD@HOST/DB     a database, any number of servers
//	https://HOST:2379,https://HOST:2379  the members of an etcd cluster
//
// Errors never repeat a password.
func New(address string, o Options) (kine.Runner, error) {
	scheme, rest, ok := strings.Cut(address, ":")
	if !ok {
		return nil, errors.New("the store's URL has no scheme: " + wanted)
	}
	switch scheme {
	case "sqlite":
		path, err := filePath(scheme, rest)
		if err != nil {
			return nil, err
		}
		return sqlite.New(sqlite.Config{
			Path: path, QuotaBytes: o.QuotaBytes, HistoryWindow: o.HistoryWindow, CompactInterval: o.CompactInterval, Keep: o.Keep, Limits: o.Limits, Log: o.Log,
		})
	case "postgres", "postgresql":
		return postgres.New(postgres.Config{
			URL: address, QuotaBytes: o.QuotaBytes,
			HistoryWindow: o.HistoryWindow, CompactInterval: o.CompactInterval, Keep: o.Keep, Limits: o.Limits, Log: o.Log,
		})
	case "http", "https", "unix":
		return etcd.New(etcdConfig(address, o))
	}
	return nil, fmt.Errorf("the store's URL has the scheme %q: %s", scheme, wanted)
}

// Shared tells whether several servers can use the store together.
func Shared(address string) bool { return !strings.HasPrefix(address, "sqlite:") }

// Endpoints are the URLs that address has: several of an etcd's members, one of
// another store, where a comma separates hosts.
func Endpoints(address string) []string {
	switch scheme, _, _ := strings.Cut(address, ":"); scheme {
	case "sqlite", "postgres", "postgresql":
		return []string{address}
	}
	return strings.Split(address, ",")
}

// Redact is the address without its passwords, for logs.
func Redact(address string) string {
	parts := Endpoints(address)
	for i, p := range parts {
		parts[i] = postgres.Redact(p)
	}
	return strings.Join(parts, ",")
}

// filePath is the path of scheme:rest.
func filePath(scheme, rest string) (string, error) {
	path, slashes := strings.CutPrefix(rest, "//")
	if !slashes {
		path = rest
	}
	if path == "" || strings.HasSuffix(path, "/") {
		return "", fmt.Errorf("the store's URL names no file: want %s:///PATH, such as %s:///var/lib/skiff/store/state.db", scheme, scheme)
	}
	if strings.ContainsAny(path, "?#") {
		return "", fmt.Errorf("the store's URL has options, which a file does not take: want %s:///PATH", scheme)
	}
	if slashes && !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("the store's URL names the host %q: a %s store is a local file, want %s:///PATH with three slashes", strings.Split(path, "/")[0], scheme, scheme)
	}
	return filepath.Clean(path), nil
}
