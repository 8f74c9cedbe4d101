// Package etcd is the store in a real etcd cluster, or behind anything that
// speaks etcd's v3 protocol.
package etcd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"skiff/kine/mvcc"
)

// Config of a store.
type Config struct {
	// Endpoints are the URLs of the cluster's members: http, https or unix.
	// Required.
	Endpoints []string
	// TLS for https: the client certificate and the authorities to trust.
	TLS *tls.Config
	// Username and Password for a cluster with authentication.
	Username, Password string
	// Limits of a request.
	Limits mvcc.Limits
	// HistoryWindow is how long every revision stays readable; default 5 minutes.
	HistoryWindow time.Duration
	// CompactInterval is how often the window is moved on; default 1 minute, and
	// a negative one leaves compaction to others.
	CompactInterval time.Duration
	// Timeout of one request; default 10 s.
	Timeout time.Duration
	// Progress is how often idle watchers are told the revision; default 5 s.
	Progress time.Duration
	// Log; default slog.Default.
	Log *slog.Logger
}

func (c Config) complete() (Config, error) {
	var errs []error
	if len(c.Endpoints) == 0 {
		errs = append(errs, errors.New("etcd: Endpoints is empty: give the members' URLs, such as https://10.0.0.1:2379"))
	}
	for _, e := range c.Endpoints {
		u, err := url.Parse(e)
		switch {
		case err != nil:
			errs = append(errs, errors.New("etcd: an endpoint cannot be parsed: want http://HOST:PORT or https://HOST:PORT"))
		case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "unix":
			errs = append(errs, fmt.Errorf("etcd: endpoint %q: want http://HOST:PORT, https://HOST:PORT or unix://PATH", u.Redacted()))
		case u.User != nil:
			errs = append(errs, fmt.Errorf("etcd: endpoint %q: set Username and Password instead", u.Redacted()))
		}
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("etcd: %w", err))
	}
	c.Limits = c.Limits.WithDefaults()
	for _, n := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{{"HistoryWindow", &c.HistoryWindow, 5 * time.Minute}, {"Timeout", &c.Timeout, 10 * time.Second}, {"Progress", &c.Progress, 5 * time.Second}} {
		if *n.value < 0 {
			errs = append(errs, fmt.Errorf("etcd: %s is %v: it must not be negative; use 0 for the default", n.name, *n.value))
		}
		if *n.value == 0 {
			*n.value = n.def
		}
	}
	if c.CompactInterval == 0 {
		c.CompactInterval = time.Minute
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, errors.Join(errs...)
}
