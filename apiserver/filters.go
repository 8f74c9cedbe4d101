package apiserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/audit"
	"skiff/apiserver/authn"
	"skiff/apiserver/handlers"
	"skiff/apiserver/request"
)

// filters puts the chain that every request passes before next, outermost first:
// panics, path, warnings, time-out, who, audit, impersonation, load, rights.
func (s *Server) filters(next http.Handler) http.Handler {
	h := s.withAuthorization(next)
	if s.flow != nil {
		h = s.flow.Wrap(h)
	} else {
		h = s.withInFlight(h)
	}
	h = authn.WithImpersonation(h, authn.ImpersonationConfig{
		Authorizer: s.core.Authorizer,
		Attributes: func(r *http.Request) authorizer.Attributes {
			return attributes(r, request.InfoFrom(r.Context()))
		},
		Impersonated: audit.Impersonated,
	})
	if s.auditor != nil {
		h = s.auditor.Wrap(h)
	}
	if s.tracing != nil {
		h = s.withTracing(h)
	}
	refuse := http.Handler(http.HandlerFunc(unauthorized))
	if s.auditor != nil {
		refuse = s.auditor.Refused(refuse)
	}
	h = s.withAuthentication(h, refuse)
	if s.auditor != nil {
		h = s.auditor.Begin(h)
	}
	if len(s.cfg.corsOrigins) > 0 {
		h = s.withCORS(h)
	}
	h = s.withDeadline(h)
	h = s.withRequest(h)
	if s.cfg.GoawayChance > 0 {
		h = s.withGoaway(h)
	}
	return s.withPanics(h)
}

// withPanics keeps one request's panic from ending the others.
func (s *Server) withPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.cfg.Log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			http.Error(w, "This request caused apiserver to panic. Look in the logs for details.", http.StatusInternalServerError)
		}()
		next.ServeHTTP(w, r)
	})
}

// withGoaway now and then has a client of HTTP/2 connect again: such clients keep
// one connection, and with it one server, for as long as it lives. Requests that
// are under way on it go on.
func (s *Server) withGoaway(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && rand.Float64() < s.cfg.GoawayChance {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// withRequest reads the path, names the request and collects warnings.
func (s *Server) withRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("Audit-ID")
		if id == "" || len(id) > 64 {
			id = uuid.NewString()
		}
		w.Header().Set("Audit-Id", id)
		// What may be kept says so itself.
		w.Header().Set("Cache-Control", "no-cache, private")
		info := request.Parse(r)
		ctx := request.WithInfo(r.Context(), info)
		ctx = request.WithAuditID(ctx, id)
		ctx = request.WithWarnings(ctx, w.Header())
		r = r.WithContext(ctx)
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer s.checks.metrics.begin(r, info)()
		if !info.LongRunning(r) {
			growStack()
		}
		next.ServeHTTP(rec.wrap(), r)
		s.checks.metrics.observe(r, info, rec.code(), rec.written, time.Since(start))
	})
}

// growStack makes the goroutine's stack as large as most requests need, in one
// step: it begins at a few KiB, and each doubling on the way down through filters,
// admission and the merging of fields would copy all that is on it by then. What
// waits for long has it taken back by the garbage collector.
//
//go:noinline
func growStack() byte {
	var frame [9 << 10]byte
	return frame[len(os.Args)%len(frame)]
}

// withDeadline ends requests that are no streams.
func (s *Server) withDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.InfoFrom(r.Context())
		if info.LongRunning(r) {
			next.ServeHTTP(w, r)
			return
		}
		timeout := s.cfg.RequestTimeout
		if text := r.URL.Query().Get("timeout"); text != "" {
			d, err := time.ParseDuration(text)
			if err != nil {
				handlers.WriteError(w, r, apierrors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL - %v", err)))
				return
			}
			if d > 0 && d < timeout {
				timeout = d
			}
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		// A body that does not come must not hold a place for longer. What is in
		// memory has no deadline and needs none.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func unauthorized(w http.ResponseWriter, r *http.Request) {
	handlers.WriteError(w, r, apierrors.NewUnauthorized("Unauthorized"))
}

// withAuthentication finds out who asks, and refuses whom it does not know.
func (s *Server) withAuthentication(next, refuse http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		resp, ok, err := s.authn.AuthenticateRequest(r)
		name := ""
		if ok && err == nil {
			name = resp.User.GetName()
		}
		s.checks.metrics.access.authenticated(name, ok, err, time.Since(start))
		if err != nil || !ok {
			if err != nil {
				s.cfg.Log.Warn("request could not be authenticated", "path", r.URL.Path, "err", err)
			}
			refuse.ServeHTTP(w, r)
			return
		}
		r = r.WithContext(request.WithUser(r.Context(), resp.User))
		// Credentials are of no use behind this point, and must not be passed on.
		r.Header.Del("Authorization")
		next.ServeHTTP(w, r)
	})
}

// withTracing makes a span of each request.
func (s *Server) withTracing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, end := s.tracing.Request(r)
		defer func() {
			code := http.StatusOK
			if rec, ok := w.(interface{ code() int }); ok {
				code = rec.code()
			}
			end(code)
		}()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// withInFlight bounds the requests at work, those that change and those that
// read apart.
func (s *Server) withInFlight(next http.Handler) http.Handler {
	reads := make(chan struct{}, s.cfg.MaxRequestsInFlight)
	writes := make(chan struct{}, s.cfg.MaxMutatingInFlight)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.InfoFrom(r.Context())
		if info.LongRunning(r) || !info.IsResource {
			next.ServeHTTP(w, r)
			return
		}
		slots := writes
		if info.ReadOnly() {
			slots = reads
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next.ServeHTTP(w, r)
			return
		default:
		}
		if u := request.UserFrom(r.Context()); u != nil {
			for _, g := range u.GetGroups() {
				if g == "system:masters" {
					next.ServeHTTP(w, r)
					return
				}
			}
		}
		// A short wait takes up bursts.
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next.ServeHTTP(w, r)
		case <-timer.C:
			w.Header().Set("Retry-After", "1")
			handlers.WriteError(w, r, apierrors.NewTooManyRequests("Too many requests, please try again later.", 1))
		case <-r.Context().Done():
		}
	})
}

// withAuthorization asks whether the user may do this.
func (s *Server) withAuthorization(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.InfoFrom(r.Context())
		attrs := attributes(r, info)
		start := time.Now()
		decision, reason, err := s.core.Authorizer.Authorize(r.Context(), attrs)
		s.checks.metrics.access.authorize(decision, err, time.Since(start))
		if decision == authorizer.DecisionAllow {
			request.Annotate(r.Context(), "authorization.k8s.io/decision", "allow")
			request.Annotate(r.Context(), "authorization.k8s.io/reason", reason)
			next.ServeHTTP(w, r)
			return
		}
		if err != nil {
			request.Annotate(r.Context(), "authorization.k8s.io/reason", "internal error")
			handlers.WriteError(w, r, apierrors.NewInternalError(err))
			return
		}
		request.Annotate(r.Context(), "authorization.k8s.io/decision", "forbid")
		request.Annotate(r.Context(), "authorization.k8s.io/reason", reason)
		handlers.WriteError(w, r, handlers.Forbidden(attrs, reason))
	})
}

func attributes(r *http.Request, info *request.Info) authorizer.Attributes {
	u := request.UserFrom(r.Context())
	if !info.IsResource {
		return authorizer.AttributesRecord{User: u, Verb: info.Verb, Path: info.Path}
	}
	out := authorizer.AttributesRecord{
		User: u, Verb: info.Verb, Namespace: info.Namespace, APIGroup: info.APIGroup, APIVersion: info.APIVersion,
		Resource: info.Resource, Subresource: info.Subresource, Name: info.Name, ResourceRequest: true, Path: info.Path,
	}
	if info.FieldSelector != "" {
		selector, err := fields.ParseSelector(info.FieldSelector)
		if out.FieldSelectorParsingErr = err; err == nil {
			out.FieldSelectorRequirements = selector.Requirements()
		}
	}
	if info.LabelSelector != "" {
		selector, err := labels.Parse(info.LabelSelector)
		if out.LabelSelectorParsingErr = err; err == nil {
			out.LabelSelectorRequirements, _ = selector.Requirements()
		}
	}
	return out
}

// recorder remembers the status code, and counts what is written.
type recorder struct {
	http.ResponseWriter
	status  int
	written int64
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	r.written += int64(n)
	return n, err
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	if r.status == 0 {
		r.status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// wrap keeps what the connection can do: flush, and on HTTP/1.1 be taken over.
func (r *recorder) wrap() http.ResponseWriter {
	_, flush := r.ResponseWriter.(http.Flusher)
	_, hijack := r.ResponseWriter.(http.Hijacker)
	switch {
	case flush && hijack:
		return hijackRecorder{flushRecorder{r}}
	case flush:
		return flushRecorder{r}
	}
	return r
}

type flushRecorder struct{ *recorder }

// Flush implements http.Flusher.
func (r flushRecorder) Flush() { r.ResponseWriter.(http.Flusher).Flush() }

type hijackRecorder struct{ flushRecorder }

// Hijack implements http.Hijacker.
func (r hijackRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.status = http.StatusSwitchingProtocols
	return r.ResponseWriter.(http.Hijacker).Hijack()
}
