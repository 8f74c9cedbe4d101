// Package etcdserver is the etcd v3 gRPC face of a store: etcdctl, a stock
// kube-apiserver and etcd's client libraries work with it.
//
// What has no meaning here, such as changes of members, is answered with
// Unimplemented.
package etcdserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"

	"skiff/kine"
)

// Config of a Server.
type Config struct {
	// Store is what is served. Required.
	Store kine.Store
	// Listen are the addresses: unix:///PATH, http://HOST:PORT, or
	// https://HOST:PORT with TLS. At least one.
	Listen []string
	// TLS for https; to demand client certificates set ClientAuth and ClientCAs.
	TLS *tls.Config
	// Advertise are the URLs that the member list names; default Listen.
	Advertise []string
	// Log; default slog.Default.
	Log *slog.Logger
}

func (c Config) complete() (Config, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("etcdserver: Store is not set"))
	}
	if len(c.Listen) == 0 {
		errs = append(errs, errors.New("etcdserver: Listen is empty: give an address such as unix:///run/skiff/etcd.sock"))
	}
	for _, a := range c.Listen {
		u, err := url.Parse(a)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("etcdserver: address %q: %w", a, err))
		case u.Scheme == "https" && c.TLS == nil:
			errs = append(errs, fmt.Errorf("etcdserver: address %q needs a certificate: set TLS", a))
		case u.Scheme == "unix" && socketPath(u) == "" || (u.Scheme == "http" || u.Scheme == "https") && u.Host == "":
			errs = append(errs, fmt.Errorf("etcdserver: address %q has no path or host", a))
		case u.Scheme != "unix" && u.Scheme != "http" && u.Scheme != "https":
			errs = append(errs, fmt.Errorf("etcdserver: address %q: want unix://, http:// or https://", a))
		}
	}
	if len(c.Advertise) == 0 {
		c.Advertise = c.Listen
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, errors.Join(errs...)
}

func socketPath(u *url.URL) string { return u.Host + u.Path }

// listen opens an address; secure tells that TLS belongs on it.
func listen(address string) (l net.Listener, secure bool, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, false, err
	}
	if u.Scheme != "unix" {
		l, err := net.Listen("tcp", u.Host)
		if err != nil {
			return nil, false, fmt.Errorf("etcdserver: %w: is another etcd running there?", err)
		}
		return l, u.Scheme == "https", nil
	}
	path := socketPath(u)
	if err := removeStale(path); err != nil {
		return nil, false, err
	}
	l, err = net.Listen("unix", path)
	if err != nil {
		return nil, false, fmt.Errorf("etcdserver: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, false, errors.Join(fmt.Errorf("etcdserver: %w", err), l.Close())
	}
	return l, false, nil
}

// removeStale removes a socket that a killed process left, but not one that is
// in use, nor another kind of file.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("etcdserver: %w", err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("etcdserver: %s is not a socket: choose another path", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("etcdserver: %s is in use by another process: stop it first", path), c.Close())
	}
	if strings.Contains(err.Error(), "refused") {
		return os.Remove(path)
	}
	return fmt.Errorf("etcdserver: %w", err)
}
