package request

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
)

type key int

const (
	infoKey key = iota
	userKey
	auditIDKey
	warningsKey
	recordKey
	inProcessKey
)

// WithInfo adds the parsed path.
func WithInfo(ctx context.Context, info *Info) context.Context {
	return context.WithValue(ctx, infoKey, info)
}

// InfoFrom is the parsed path, or nil.
func InfoFrom(ctx context.Context) *Info {
	info, _ := ctx.Value(infoKey).(*Info)
	return info
}

// WithInProcessUser marks the request as coming from a part of this process with
// the given identity. Only the in-memory transport calls it: contexts do not
// travel over sockets, so nothing from the network can forge it.
func WithInProcessUser(ctx context.Context, u user.Info) context.Context {
	return context.WithValue(ctx, inProcessKey, u)
}

// InProcessUser is the identity that WithInProcessUser set.
func InProcessUser(ctx context.Context) (user.Info, bool) {
	u, ok := ctx.Value(inProcessKey).(user.Info)
	return u, ok
}

// WithUser says who asks, after authentication and again after impersonation.
func WithUser(ctx context.Context, u user.Info) context.Context {
	return context.WithValue(ctx, userKey, u)
}

// UserFrom is who asks, or nil before authentication.
func UserFrom(ctx context.Context) user.Info {
	u, _ := ctx.Value(userKey).(user.Info)
	return u
}

// WithAuditID adds the request's id.
func WithAuditID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, auditIDKey, id)
}

// AuditIDFrom is the request's id, or "".
func AuditIDFrom(ctx context.Context) string {
	id, _ := ctx.Value(auditIDKey).(string)
	return id
}

// Record takes what parts of the server note of a request for its audit event.
type Record interface {
	// Annotate adds an annotation.
	Annotate(key, value string)
	// AnnotateBody adds one that shows some of the request's body. Only events that
	// show bodies take it, and only they ask for the value.
	AnnotateBody(key string, value func() string)
	// About names the object in the request's body.
	About(o metav1.Object)
}

// WithRecord adds the request's audit record.
func WithRecord(ctx context.Context, r Record) context.Context {
	return context.WithValue(ctx, recordKey, r)
}

// Annotate records an audit annotation when the request is audited.
func Annotate(ctx context.Context, key, value string) {
	if r, ok := ctx.Value(recordKey).(Record); ok {
		r.Annotate(key, value)
	}
}

// AnnotateBody records an audit annotation where the request's body is recorded.
func AnnotateBody(ctx context.Context, key string, value func() string) {
	if r, ok := ctx.Value(recordKey).(Record); ok {
		r.AnnotateBody(key, value)
	}
}

// About tells the request's audit record which object its body holds.
func About(ctx context.Context, obj runtime.Object) {
	r, ok := ctx.Value(recordKey).(Record)
	if !ok {
		return
	}
	if o, err := meta.Accessor(obj); err == nil {
		r.About(o)
	}
}
