package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/request"
)

// Sink takes events. Log is one. An error says that an event is lost and that
// nothing may be done unrecorded.
type Sink interface {
	Record(ctx context.Context, e *auditv1.Event) error
}

// Config of an Auditor.
type Config struct {
	Policy *Policy
	Sinks  []Sink
	// Fail answers a request that cannot be recorded as it comes in.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Auditor records requests.
type Auditor struct{ cfg Config }

// New checks the configuration.
func New(c Config) (*Auditor, error) {
	if c.Policy == nil || len(c.Sinks) == 0 || c.Fail == nil {
		return nil, errors.New("audit: Policy, Sinks and Fail must be set: give --audit-policy-file and --audit-log-path")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Auditor{cfg: c}, nil
}

// maxBody bounds the bodies that are recorded; what is larger is left out.
const maxBody = 1 << 20

type recordKey struct{}

// Begin makes the record of a request, so that what authentication notes is in its
// event. It stands before authentication, and Wrap or Refused decide behind it
// whether the request is recorded.
func (a *Auditor) Begin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &record{}
		ctx := context.WithValue(r.Context(), recordKey{}, rec)
		next.ServeHTTP(w, r.WithContext(request.WithRecord(ctx, rec)))
	})
}

// begun is the request's record, with its event; nil when it is not recorded.
func (a *Auditor) begun(r *http.Request) (*record, *http.Request) {
	info := request.InfoFrom(r.Context())
	u := request.UserFrom(r.Context())
	d := a.cfg.Policy.decide(u, info)
	if d.level == auditv1.LevelNone {
		return nil, r
	}
	rec, ok := r.Context().Value(recordKey{}).(*record)
	if !ok {
		rec = &record{}
		ctx := context.WithValue(r.Context(), recordKey{}, rec)
		r = r.WithContext(request.WithRecord(ctx, rec))
	}
	rec.begin(a.event(r, info, u, d), d)
	return rec, r
}

// Wrap records the requests that pass. It stands behind authentication.
func (a *Auditor) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, r := a.begun(r)
		if rec == nil {
			next.ServeHTTP(w, r)
			return
		}
		ctx := r.Context()
		if err := a.send(ctx, rec, auditv1.StageRequestReceived); err != nil {
			a.cfg.Fail(w, r, apierrors.NewInternalError(errors.New("failed to store audit event")))
			return
		}
		var body *tee
		if rec.decision.bodies() && r.Body != nil && r.Body != http.NoBody {
			body = &tee{ReadCloser: r.Body}
			r.Body = body
		}
		info := request.InfoFrom(ctx)
		long := info.LongRunning(r)
		rw := &writer{ResponseWriter: w, removes: info.Verb == "delete" || info.Verb == "deletecollection"}
		if rec.decision.level == auditv1.LevelRequestResponse && !long && documented(info) {
			rw.keep = maxBody
		}
		if long {
			rw.started = func() {
				rec.status(metav1.Status{Code: int32(rw.code)})
				a.later(ctx, rec, auditv1.StageResponseStarted)
			}
		}
		defer func() {
			if p := recover(); p != nil {
				rec.status(metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError, Message: fmt.Sprintf("APIServer panic'd: %v", p)})
				a.later(ctx, rec, auditv1.StagePanic)
				panic(p)
			}
			if body != nil {
				rec.request(body.buf.Bytes(), r.Header.Get("Content-Type"), body.over)
			}
			rec.response(rw, w.Header().Get("Content-Type"))
			a.later(ctx, rec, auditv1.StageResponseComplete)
		}()
		next.ServeHTTP(rw.wrap(), r)
	})
}

// documented tells whether answers are objects of the API, or its discovery: what
// other paths answer is not recorded.
func documented(info *request.Info) bool {
	return info.IsResource || info.Path == "/api" || info.Path == "/apis" || strings.HasPrefix(info.Path, "/api/") || strings.HasPrefix(info.Path, "/apis/")
}

// Refused records requests whose credentials are not accepted; refuse answers them.
func (a *Auditor) Refused(refuse http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, r := a.begun(r)
		if rec == nil {
			refuse.ServeHTTP(w, r)
			return
		}
		rw := &writer{ResponseWriter: w}
		refuse.ServeHTTP(rw, r)
		rec.response(rw, w.Header().Get("Content-Type"))
		a.later(r.Context(), rec, auditv1.StageResponseStarted)
	})
}

// Impersonated notes whom the user acts for, and the verb that lets them.
func Impersonated(ctx context.Context, as user.Info, constraint string) {
	rec, ok := ctx.Value(recordKey{}).(*record)
	if !ok {
		return
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	who := userInfo(as)
	rec.event.ImpersonatedUser = &who
	if constraint != "" {
		rec.event.AuthenticationMetadata = &auditv1.AuthenticationMetadata{ImpersonationConstraint: constraint}
	}
}

func (a *Auditor) event(r *http.Request, info *request.Info, u user.Info, d decision) auditv1.Event {
	now := metav1.NewMicroTime(a.cfg.Now())
	e := auditv1.Event{
		TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: auditv1.SchemeGroupVersion.String()},
		Level:    d.level, AuditID: types.UID(request.AuditIDFrom(r.Context())), RequestURI: r.URL.RequestURI(), Verb: info.Verb,
		UserAgent: shortAgent(r.UserAgent()), SourceIPs: sources(r), RequestReceivedTimestamp: now, StageTimestamp: now,
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

// maxAgent bounds what clients say of themselves.
const maxAgent = 1024

func shortAgent(agent string) string {
	if len(agent) > maxAgent {
		return agent[:maxAgent] + "...TRUNCATED"
	}
	return agent
}

// sources are the client's addresses as proxies tell them, the connection's last.
func sources(r *http.Request) []string {
	var out []string
	add := func(text string) {
		if ip := net.ParseIP(strings.TrimSpace(text)); ip != nil && (len(out) == 0 || out[len(out)-1] != ip.String()) {
			out = append(out, ip.String())
		}
	}
	for part := range strings.SplitSeq(r.Header.Get("X-Forwarded-For"), ",") {
		add(part)
	}
	add(r.Header.Get("X-Real-Ip"))
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		add(host)
	}
	return out
}

// later records what can no longer be undone.
func (a *Auditor) later(ctx context.Context, rec *record, stage auditv1.Stage) {
	_ = a.send(ctx, rec, stage) // sinks tell of what they lose
}

// send gives every sink the event of a stage.
func (a *Auditor) send(ctx context.Context, rec *record, stage auditv1.Stage) error {
	if slices.Contains(rec.decision.omit, stage) {
		return nil
	}
	rec.mu.Lock()
	rec.event.Stage = stage
	if stage != auditv1.StageRequestReceived {
		rec.event.StageTimestamp = metav1.NewMicroTime(a.cfg.Now())
	}
	e := rec.event.DeepCopy()
	rec.mu.Unlock()
	var errs []error
	for _, s := range a.cfg.Sinks {
		errs = append(errs, s.Record(context.WithoutCancel(ctx), e))
	}
	return errors.Join(errs...)
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
