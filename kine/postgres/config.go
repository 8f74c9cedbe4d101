// Package postgres is the store for several servers: a revisioned key-value log
// in a PostgreSQL database, or one that speaks its protocol.
//
// Each process has one writer. A group of operations is one transaction that locks
// the row with the revision: so commits happen in revision order, whoever makes
// them, and every compare is decided by what the database holds. It takes the lock
// with the write itself, if the revision is still the one that the group was
// planned over, or else before it is planned.
// Readers ask the database, in one statement that sees one moment. Watchers are
// fed by an ordered read of the log; NOTIFY only says that it is worth a look.
package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/lib/pq"

	"skiff/kine/history"
	"skiff/kine/mvcc"
)

// Config of a store.
type Config struct {
	// URL of the database: postgres://USER:PASSWORD@HOST/DATABASE?sslmode=...
	// Several, HOST:PORT,HOST:PORT, are tried until one takes writes. Required. Errors and logs never show its password.
	URL string
	// ListenURL is a direct address for notifications, where URL leads through a
	// pooler that does not pass them; default URL with the host that its parameter
	// listen names. Without notifications changes by other servers are seen within
	// 100 ms.
	ListenURL string
	// Limits of a request.
	Limits mvcc.Limits
	// HistoryWindow is how long every revision stays readable; default 5 minutes.
	HistoryWindow time.Duration
	// CompactInterval is how often the window is moved on; default 1 minute.
	CompactInterval time.Duration
	// Keep is what is kept of the past for the history commands; servers of one
	// database have the same.
	Keep history.Retention
	// QuotaBytes is the size of the tables at which puts are refused; 0 for none.
	QuotaBytes int64
	// Connections bounds the connections of the readers; default 8. The writer,
	// the watchers' feed and the notifications take one each beside them.
	Connections int
	// Timeout is how long the database may stay silent in the middle of an
	// answer before the connection counts as lost; default 15 s.
	Timeout time.Duration
	// Progress is how often idle watchers are told the revision; default 5 s.
	Progress time.Duration
	// Log; default slog.Default.
	Log *slog.Logger
}

func (c Config) complete() (Config, error) {
	var errs []error
	if _, err := config(c.URL); err != nil {
		errs = append(errs, fmt.Errorf("postgres: URL: %w", err))
	}
	if c.ListenURL == "" {
		c.ListenURL = listenURL(c.URL)
	} else if _, err := config(c.ListenURL); err != nil {
		errs = append(errs, fmt.Errorf("postgres: ListenURL: %w", err))
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("postgres: %w", err))
	}
	c.Limits = c.Limits.WithDefaults()
	if err := c.Keep.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("postgres: %w", err))
	}
	for _, n := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"HistoryWindow", &c.HistoryWindow, 5 * time.Minute}, {"CompactInterval", &c.CompactInterval, time.Minute},
		{"Timeout", &c.Timeout, 15 * time.Second}, {"Progress", &c.Progress, 5 * time.Second},
	} {
		if *n.value < 0 {
			errs = append(errs, fmt.Errorf("postgres: %s is %v: it must not be negative; use 0 for the default", n.name, *n.value))
		}
		if *n.value == 0 {
			*n.value = n.def
		}
	}
	if c.QuotaBytes < 0 || c.Connections < 0 {
		errs = append(errs, errors.New("postgres: QuotaBytes and Connections must not be negative; use 0 for the default"))
	}
	if c.Connections == 0 {
		c.Connections = 8
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, errors.Join(errs...)
}

// listen is the parameter of a URL that names the database's own host, HOST:PORT or
// a socket's folder, where the URL leads to a pooler.
const listen = "listen"

// listenURL is where notifications are listened for.
func listenURL(address string) string {
	u, err := parse(address)
	if err != nil {
		return address // refused by config
	}
	q := u.Query()
	host := q.Get(listen)
	q.Del(listen)
	switch {
	case strings.HasPrefix(host, "/"):
		u.Host = ""
		q.Del("port")
		q.Set("host", host)
	case host != "":
		u.Host = host
		q.Del("host")
		q.Del("port")
	}
	hosts(u, q)
	// A standby has no notifications.
	if !q.Has(attrs) {
		q.Set(attrs, string(pq.TargetSessionAttrsReadWrite))
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// attrs is the parameter that tells which of several servers will do.
const attrs = "target_session_attrs"

// parse reads a URL whose host may be several, which net/url takes only while none
// is an IPv6 address.
func parse(address string) (*url.URL, error) {
	scheme, rest, found := strings.Cut(address, "://")
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	user := authority[:strings.LastIndex(authority, "@")+1]
	list := authority[len(user):]
	if !found || !strings.Contains(list, ",") {
		return url.Parse(address)
	}
	u, err := url.Parse(scheme + "://" + user + "host" + rest[len(authority):])
	if err == nil {
		u.Host = list
	}
	return u, err
}

// hosts writes several addresses in the place of one, as libpq takes them, into
// parameters, as pq does.
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS
func hosts(u *url.URL, q url.Values) {
	if !strings.Contains(u.Host, ",") {
		return
	}
	var names, ports []string
	for _, address := range strings.Split(u.Host, ",") {
		name, port, err := net.SplitHostPort(address)
		if err != nil {
			name, port = strings.Trim(address, "[]"), "5432"
		}
		names, ports = append(names, name), append(ports, port)
	}
	u.Host = ""
	q.Set("host", strings.Join(names, ","))
	q.Set("port", strings.Join(ports, ","))
}

// Redact is a URL without what is secret in it. One that cannot be read is its scheme.
func Redact(address string) string {
	u, err := parse(address)
	if err != nil {
		scheme, _, _ := strings.Cut(address, ":")
		return scheme + "://..."
	}
	q := u.Query()
	for _, name := range []string{"password", "sslpassword"} {
		if q.Has(name) {
			q.Set(name, "xxxxx")
			u.RawQuery = q.Encode()
		}
	}
	return u.Redacted()
}

// config reads a URL. What is wrong with it is told without its password.
func config(address string) (pq.Config, error) {
	if !strings.HasPrefix(address, "postgres://") && !strings.HasPrefix(address, "postgresql://") {
		return pq.Config{}, errors.New("want postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	u, err := parse(address)
	if err != nil {
		return pq.Config{}, errors.New("it cannot be parsed: want postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters of the password written as %XX")
	}
	q := u.Query()
	q.Del(listen)
	hosts(u, q)
	u.RawQuery = q.Encode()
	cfg, err := pq.NewConfig(u.String())
	if err != nil {
		text := err.Error()
		password, _ := u.User.Password()
		for _, p := range []string{password, q.Get("password"), q.Get("sslpassword")} {
			if p != "" {
				text = strings.ReplaceAll(text, p, "xxxxx")
			}
		}
		return pq.Config{}, fmt.Errorf("%s of %s", text, Redact(address))
	}
	// One round trip per statement, and nothing that outlives it on the server:
	// poolers may hand every transaction another connection.
	cfg.BinaryParameters = true
	// A standby's reads would be of the past.
	if !q.Has(attrs) {
		cfg.TargetSessionAttrs = pq.TargetSessionAttrsReadWrite
	}
	if cfg.ApplicationName == "" {
		cfg.ApplicationName = "skiff"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	return cfg, nil
}

// dialer makes connections on which the server may not stay silent for longer
// than timeout while an answer is due.
type dialer struct {
	net.Dialer
	timeout time.Duration
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialTimeout(network, address, 0)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	dial := d.Dialer
	dial.Timeout = timeout
	c, err := dial.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return &patientConn{c, d.timeout}, nil
}

type patientConn struct {
	net.Conn
	timeout time.Duration
}

func (c *patientConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *patientConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
