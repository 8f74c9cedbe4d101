package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/request"
)

// Sink takes events. Log is one.
type Sink interface {
	Record(ctx context.Context, e *auditv1.Event)
}

// Config of an Auditor.
type Config struct {
	Policy *Policy
	Sinks  []Sink
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Auditor records requests.
type Auditor struct{ cfg Config }

// New checks the configuration.
func New(c Config) (*Auditor, error) {
	if c.Policy == nil || len(c.Sinks) == 0 {
		return nil, errors.New("audit: Policy and Sinks must be set: give --audit-policy-file and --audit-log-path")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Auditor{cfg: c}, nil
}

// maxBody bounds the bodies that are recorded; what is larger is left out.
const maxBody = 1 << 20

// record is the event of one request, as it grows.
type record struct {
	mu       sync.Mutex
	event    auditv1.Event
	decision decision
}

type recordKey struct{}

// Wrap records the requests that pass. It stands behind authentication.
func (a *Auditor) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.InfoFrom(r.Context())
		u := request.UserFrom(r.Context())
		d := a.cfg.Policy.decide(u, info)
		if d.level == auditv1.LevelNone {
			next.ServeHTTP(w, r)
			return
		}
		rec := &record{decision: d, event: a.event(r, info, u, d)}
		ctx := context.WithValue(r.Context(), recordKey{}, rec)
		ctx = request.WithAnnotator(ctx, rec.annotate)
		a.send(ctx, rec, auditv1.StageRequestReceived)
		r = r.WithContext(ctx)
		var body *tee
		if d.level == auditv1.LevelRequest || d.level == auditv1.LevelRequestResponse {
			if r.Body != nil && r.Body != http.NoBody {
				body = &tee{ReadCloser: r.Body}
				r.Body = body
			}
		}
		long := info.LongRunning(r)
		rw := &writer{ResponseWriter: w, keep: d.level == auditv1.LevelRequestResponse && !long}
		if long {
			rw.started = func() { a.send(ctx, rec, auditv1.StageResponseStarted) }
		}
		defer func() {
			if p := recover(); p != nil {
				rec.status(http.StatusInternalServerError, "the request panicked")
				a.send(ctx, rec, auditv1.StagePanic)
				panic(p)
			}
			if body != nil {
				rec.request(body.buf.Bytes(), r.Header.Get("Content-Type"), body.over)
			}
			rec.response(rw, w.Header().Get("Content-Type"))
			a.send(ctx, rec, auditv1.StageResponseComplete)
		}()
		next.ServeHTTP(rw.wrap(), r)
	})
}

// Inner notes whom the user acts for. It stands behind impersonation.
func Inner(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rec, ok := r.Context().Value(recordKey{}).(*record); ok {
			if u := request.UserFrom(r.Context()); u != nil && u.GetName() != rec.event.User.Username {
				rec.mu.Lock()
				who := userInfo(u)
				rec.event.ImpersonatedUser = &who
				rec.mu.Unlock()
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (a *Auditor) event(r *http.Request, info *request.Info, u user.Info, d decision) auditv1.Event {
	now := metav1.NewMicroTime(a.cfg.Now())
	e := auditv1.Event{
		TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: auditv1.SchemeGroupVersion.String()},
		Level:    d.level, AuditID: types.UID(request.AuditIDFrom(r.Context())), RequestURI: r.URL.RequestURI(), Verb: info.Verb,
		UserAgent: r.UserAgent(), SourceIPs: sources(r), RequestReceivedTimestamp: now, StageTimestamp: now,
	}
	if u != nil {
		e.User = userInfo(u)
	}
	if info.IsResource {
		e.ObjectRef = &auditv1.ObjectReference{
			Resource: info.Resource, Namespace: info.Namespace, Name: info.Name, APIGroup: info.APIGroup, APIVersion: info.APIVersion, Subresource: info.Subresource,
		}
	}
	return e
}

func userInfo(u user.Info) authnv1.UserInfo {
	out := authnv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for k, v := range u.GetExtra() {
		if out.Extra == nil {
			out.Extra = map[string]authnv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

// sources are the client's addresses as proxies tell them, the connection's last.
func sources(r *http.Request) []string {
	var out []string
	for part := range strings.SplitSeq(r.Header.Get("X-Forwarded-For"), ",") {
		if ip := net.ParseIP(strings.TrimSpace(part)); ip != nil {
			out = append(out, ip.String())
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err == nil && (len(out) == 0 || out[len(out)-1] != host) {
		out = append(out, host)
	}
	return out
}

func (a *Auditor) send(ctx context.Context, rec *record, stage auditv1.Stage) {
	for _, s := range rec.decision.omit {
		if s == stage {
			return
		}
	}
	rec.mu.Lock()
	rec.event.Stage = stage
	if stage != auditv1.StageRequestReceived {
		rec.event.StageTimestamp = metav1.NewMicroTime(a.cfg.Now())
	}
	e := rec.event.DeepCopy()
	rec.mu.Unlock()
	for _, s := range a.cfg.Sinks {
		s.Record(context.WithoutCancel(ctx), e)
	}
}

func (rec *record) annotate(key, value string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.event.Annotations == nil {
		rec.event.Annotations = map[string]string{}
	}
	// The first one wins: who decided first knows best.
	if _, has := rec.event.Annotations[key]; !has {
		rec.event.Annotations[key] = value
	}
}

func (rec *record) status(code int, message string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.event.ResponseStatus = &metav1.Status{Code: int32(code), Message: message}
	if code >= 400 {
		rec.event.ResponseStatus.Status, rec.event.ResponseStatus.Reason = metav1.StatusFailure, reasons[code]
	}
}

var reasons = map[int]metav1.StatusReason{
	400: metav1.StatusReasonBadRequest, 401: metav1.StatusReasonUnauthorized, 403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound,
	409: metav1.StatusReasonConflict, 410: metav1.StatusReasonExpired, 422: metav1.StatusReasonInvalid, 429: metav1.StatusReasonTooManyRequests,
	500: metav1.StatusReasonInternalError, 503: metav1.StatusReasonServiceUnavailable, 504: metav1.StatusReasonTimeout,
}

func (rec *record) request(b []byte, media string, over bool) {
	if over {
		return
	}
	if obj := asJSON(b, media, rec.decision.omitManagedFields); obj != nil {
		rec.mu.Lock()
		rec.event.RequestObject = obj
		rec.mu.Unlock()
	}
}

func (rec *record) response(w *writer, media string) {
	code := w.code
	if code == 0 {
		code = http.StatusOK
	}
	rec.status(code, "")
	if !w.keep || w.over {
		return
	}
	if obj := asJSON(w.buf.Bytes(), media, rec.decision.omitManagedFields); obj != nil {
		rec.mu.Lock()
		rec.event.ResponseObject = obj
		rec.mu.Unlock()
	}
}

// tee keeps what is read.
type tee struct {
	io.ReadCloser
	buf  bytes.Buffer
	over bool
}

// Read implements io.Reader.
func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if t.buf.Len()+n > maxBody {
		t.over = true
	} else {
		t.buf.Write(p[:n])
	}
	return n, err
}
