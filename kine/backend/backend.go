// Package backend opens the store that a URL names.
package backend

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"skiff/kine"
	"skiff/kine/sqlite"
)

// Options hold for every backend.
type Options struct {
	// QuotaBytes is the size at which puts are refused; 0 for none.
	QuotaBytes int64
	Log        *slog.Logger
}

// New makes the store of the --etcd-servers URLs: sqlite://PATH. Errors never
// repeat a URL's password.
func New(urls []string, o Options) (kine.Runner, error) {
	if len(urls) == 0 {
		return nil, fmt.Errorf("no store is named: give --etcd-servers, such as sqlite:///var/lib/skiff/store/state.db")
	}
	u, err := url.Parse(urls[0])
	if err != nil {
		return nil, fmt.Errorf("the store's URL cannot be read: want sqlite://PATH")
	}
	switch u.Scheme {
	case "sqlite":
		if len(urls) > 1 {
			return nil, fmt.Errorf("%d stores are named: a SQLite store takes one URL", len(urls))
		}
		path := u.Host + u.Path
		if path == "" {
			path = strings.TrimPrefix(urls[0], "sqlite:")
		}
		return sqlite.New(sqlite.Config{Path: path, QuotaBytes: o.QuotaBytes, Log: o.Log})
	}
	return nil, fmt.Errorf("the store's URL has the scheme %q: want sqlite", u.Scheme)
}
