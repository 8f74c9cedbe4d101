package audit

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// writer notes the status, and the body where it is recorded.
type writer struct {
	http.ResponseWriter
	code    int
	keep    bool
	buf     bytes.Buffer
	over    bool
	started func()
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
	if w.keep {
		if w.buf.Len()+len(b) > maxBody {
			w.over = true
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
