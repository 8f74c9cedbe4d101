package request

import (
	"context"

	"k8s.io/apiserver/pkg/authentication/user"
)

type key int

const (
	infoKey key = iota
	userKey
	auditIDKey
	warningsKey
	annotatorKey
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

// WithAnnotator adds the function that records audit annotations.
func WithAnnotator(ctx context.Context, annotate func(key, value string)) context.Context {
	return context.WithValue(ctx, annotatorKey, annotate)
}

// Annotate records an audit annotation when the request is audited.
func Annotate(ctx context.Context, key, value string) {
	if annotate, ok := ctx.Value(annotatorKey).(func(key, value string)); ok {
		annotate(key, value)
	}
}
