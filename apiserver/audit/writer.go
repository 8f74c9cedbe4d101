package audit

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// maxStatus bounds what is kept of an answer to find its Status in.
const maxStatus = 64 << 10

// writer notes the status, and as much of the body as is recorded.
type writer struct {
	http.ResponseWriter
	code int
	// keep is how much of the body is recorded.
	keep int
	// removes says that the answer to success is a Status too.
	removes bool
	buf     bytes.Buffer
	over    bool
	started func()
}

// bound is how much of the body is kept. Statuses are, since their reasons are
// recorded without bodies as well.
func (w *writer) bound() int {
	if w.keep == 0 && (w.code >= http.StatusBadRequest || w.removes) {
		return maxStatus
	}
	return w.keep
}

// kept is the body; nil when it was too large or is not wanted.
func (w *writer) kept() []byte {
	if w.over {
		return nil
	}
	return w.buf.Bytes()
}

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
		if w.started != nil {
			w.started()
		}
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *writer) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if n := w.bound(); n > 0 && !w.over {
		if w.buf.Len()+len(b) > n {
			w.over = true
			w.buf = bytes.Buffer{}
		} else {
			w.buf.Write(b)
		}
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// wrap keeps what the connection can do.
func (w *writer) wrap() http.ResponseWriter {
	_, flush := w.ResponseWriter.(http.Flusher)
	_, hijack := w.ResponseWriter.(http.Hijacker)
	switch {
	case flush && hijack:
		return hijackWriter{flushWriter{w}}
	case flush:
		return flushWriter{w}
	}
	return w
}

type flushWriter struct{ *writer }

// Flush implements http.Flusher.
func (w flushWriter) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

type hijackWriter struct{ flushWriter }

// Hijack implements http.Hijacker.
func (w hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.code == 0 {
		w.code = http.StatusSwitchingProtocols
		if w.started != nil {
			w.started()
		}
	}
	return w.ResponseWriter.(http.Hijacker).Hijack()
}
