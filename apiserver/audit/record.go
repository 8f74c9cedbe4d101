package audit

import (
	"encoding/json"
	"net/http"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// record is the event of one request, as it grows.
type record struct {
	mu       sync.Mutex
	event    auditv1.Event
	decision decision
}

// begin gives the record its event; what was noted before stays.
func (rec *record) begin(e auditv1.Event, d decision) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	e.Annotations = rec.event.Annotations
	rec.event, rec.decision = e, d
}

// Annotate implements request.Record.
func (rec *record) Annotate(key, value string) {
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

// AnnotateBody implements request.Record.
func (rec *record) AnnotateBody(key string, value func() string) {
	if rec.decision.bodies() {
		rec.Annotate(key, value())
	}
}

// About implements request.Record: who creates says the name in the body alone.
func (rec *record) About(o metav1.Object) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	ref := rec.event.ObjectRef
	if ref == nil {
		return
	}
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&ref.Namespace, o.GetNamespace()}, {&ref.Name, o.GetName()}, {(*string)(&ref.UID), string(o.GetUID())}, {&ref.ResourceVersion, o.GetResourceVersion()},
	} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
}

func (rec *record) status(s metav1.Status) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.event.ResponseStatus = &s
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
	obj := asJSON(w.kept(), media, rec.decision.omitManagedFields)
	status := metav1.Status{Code: int32(code)}
	if said, ok := statusIn(obj); ok {
		status = metav1.Status{Status: said.Status, Message: said.Message, Reason: said.Reason, Details: said.Details, Code: int32(code)}
	}
	rec.status(status)
	if obj != nil && w.keep > 0 {
		rec.mu.Lock()
		rec.event.ResponseObject = obj
		rec.mu.Unlock()
	}
}

// statusIn is the Status that an answer is, if it is one.
func statusIn(body *runtime.Unknown) (metav1.Status, bool) {
	var s metav1.Status
	if body == nil || json.Unmarshal(body.Raw, &s) != nil || s.Kind != "Status" {
		return s, false
	}
	return s, true
}
