package handlers

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/request"
)

// purge removes an object whose stored bytes cannot be read, past finalizers and
// admission. done is false for an object that can be read: it is deleted like any
// other. It takes a verb of its own.
func (a *API) purge(ctx context.Context, t *Target) (done bool, err error) {
	user := request.UserFrom(ctx)
	if a.cfg.Authorizer == nil || user == nil {
		return false, apierrors.NewInternalError(errors.New("no authorizer provided, unable to authorize unsafe delete"))
	}
	request.Annotate(ctx, "apiserver.k8s.io/unsafe-delete-ignore-read-error", "")
	decision, reason, err := a.cfg.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: user, Verb: "unsafe-delete-ignore-read-errors", Namespace: t.Namespace, APIGroup: t.Resource.Group, APIVersion: t.Version.Name,
		Resource: t.Resource.Plural, Subresource: t.Subresource, Name: t.Name, ResourceRequest: true,
	})
	if decision != authorizer.DecisionAllow {
		if err != nil {
			reason = err.Error()
		}
		return false, apierrors.NewForbidden(t.GR(), t.Name, errors.New("not permitted to do \"unsafe-delete-ignore-read-errors\", reason: "+reason))
	}
	it, err := t.Store.Get(ctx, t.Namespace, t.Name, "")
	if err != nil {
		return false, err
	}
	if _, err := it.Object(); err == nil {
		return false, nil
	}
	a.cfg.Log.Warn("object that cannot be read is removed", "resource", t.GR(), "namespace", t.Namespace, "name", t.Name)
	return true, t.Store.Purge(ctx, t.Namespace, t.Name)
}
