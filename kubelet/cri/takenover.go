package cri

import (
	"bufio"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// leftGrace is how long a connection is left open that its handler has returned
// from: the library ends most sessions itself, once their last words are out.
const leftGrace = 10 * time.Second

// endingTaken ends the connections that h takes over and leaves open, as the library
// does of clients that never open their streams: they would be held for hours.
func endingTaken(h http.Handler, grace time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &taking{ResponseWriter: w}
		h.ServeHTTP(t, r)
		if conn := t.conn; conn != nil && !conn.closed.Load() {
			time.AfterFunc(grace, func() { _ = conn.Close() }) // it may be closed by now
		}
	})
}

// taking remembers the connection that is taken over.
type taking struct {
	http.ResponseWriter
	conn *takenConn
}

// Unwrap is for http.ResponseController.
func (t *taking) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// Hijack implements http.Hijacker.
func (t *taking) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.conn = &takenConn{Conn: conn}
	return t.conn, rw, nil
}

type takenConn struct {
	net.Conn
	closed atomic.Bool
}

// Close implements io.Closer.
func (c *takenConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}
