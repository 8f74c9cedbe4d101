// Package client is how the parts of skiff reach the API: by kubeconfig, or in
// memory where the API server is in the same process.
//
// In memory there is no TLS and no socket, but everything else of a request:
// each part has its own identity, is authorised, flow-controlled and audited,
// and gets bytes, never the server's own objects.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"

	"skiff/apiserver/request"
)

// InProcess configures clients that call handler directly as u. agent is the
// user agent, which field managers are named by.
func InProcess(handler http.Handler, u user.Info, agent string) *rest.Config {
	return &rest.Config{
		Host:      "http://skiff.in-process",
		UserAgent: agent,
		QPS:       -1,
		ContentConfig: rest.ContentConfig{
			ContentType:        "application/vnd.kubernetes.protobuf",
			AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json",
		},
		Transport:      &transport{handler: handler, user: u},
		WarningHandler: rest.NoWarnings{}, // they are for people
	}
}

// transport is an http.RoundTripper without a network.
type transport struct {
	handler http.Handler
	user    user.Info
}

// errClosed is what a handler's write gets once the client has left.
var errClosed = errors.New("the client has closed the response")

// RoundTrip serves the request in a goroutine of its own that ends with the
// request: the context of the request ends when the body is closed.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(request.WithInProcessUser(req.Context(), t.user))
	in := req.Clone(ctx)
	in.RequestURI = in.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:0"
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/2.0", 2, 0
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := newResponse(req, cancel)
	// A client that waits for more of a watch is woken when its request ends.
	context.AfterFunc(ctx, func() { w.wake(req.Context()) })
	go func() {
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				w.abort(fmt.Errorf("the server failed: %v", p))
				return
			}
			w.finish()
		}()
		t.handler.ServeHTTP(w, in)
	}()
	select {
	case <-w.started:
		return w.resp, nil
	case <-req.Context().Done():
		cancel()
		w.leave(req.Context().Err())
		return nil, req.Context().Err()
	}
}

// maxBuffered bounds what waits for the client to read; the handler blocks then,
// as on a full socket.
const maxBuffered = 1 << 20

// response is the handler's writer and the client's body.
type response struct {
	resp    *http.Response
	header  http.Header
	started chan struct{}
	once    sync.Once
	cancel  context.CancelFunc

	mu     sync.Mutex
	cond   *sync.Cond
	buf    []byte
	done   bool
	err    error
	closed bool
}

func newResponse(req *http.Request, cancel context.CancelFunc) *response {
	w := &response{header: http.Header{}, started: make(chan struct{}), cancel: cancel}
	w.cond = sync.NewCond(&w.mu)
	w.resp = &http.Response{Proto: "HTTP/2.0", ProtoMajor: 2, Request: req, ContentLength: -1, Body: w}
	return w
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(code int) {
	w.once.Do(func() {
		w.resp.StatusCode = code
		w.resp.Status = fmt.Sprintf("%d %s", code, http.StatusText(code))
		w.resp.Header = w.header.Clone()
		close(w.started)
	})
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) > maxBuffered && !w.closed {
		w.cond.Wait()
	}
	if w.closed {
		return 0, errClosed
	}
	w.buf = append(w.buf, b...)
	w.cond.Broadcast()
	return len(b), nil
}

// Flush implements http.Flusher: nothing is held back.
func (w *response) Flush() { w.WriteHeader(http.StatusOK) }

func (w *response) finish() {
	w.WriteHeader(http.StatusOK)
	w.end(io.EOF)
}

func (w *response) abort(err error) {
	w.WriteHeader(http.StatusInternalServerError)
	w.end(err)
}

// leave is the client's: it went before there was an answer. The header is the
// handler's, which may be writing it.
func (w *response) leave(err error) {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.end(err)
}

func (w *response) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.done, w.err = true, err
	}
	w.cond.Broadcast()
}

// wake ends a read of the client whose own context has ended.
func (w *response) wake(ctx context.Context) {
	if err := ctx.Err(); err != nil {
		w.end(err)
	}
}

// Read is the client's side.
func (w *response) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) == 0 && !w.done && !w.closed {
		w.cond.Wait()
	}
	switch {
	case w.closed:
		return 0, http.ErrBodyReadAfterClose
	case len(w.buf) == 0:
		return 0, w.err
	}
	n := copy(b, w.buf)
	w.buf = w.buf[n:]
	if len(w.buf) == 0 {
		w.buf = nil
	}
	w.cond.Broadcast()
	return n, nil
}

// Close is the client's side: the handler's request ends.
func (w *response) Close() error {
	w.mu.Lock()
	w.closed = true
	w.buf = nil
	w.cond.Broadcast()
	w.mu.Unlock()
	w.cancel()
	return nil
}
