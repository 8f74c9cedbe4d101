package handlers

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/request"
)

// purge removes an object whose stored bytes cannot be read, past finalizers and
// admission. It is for no other object, and takes a verb of its own.
func (a *API) purge(ctx context.Context, t *Target) error {
	user := request.UserFrom(ctx)
	if a.cfg.Authorizer == nil || user == nil {
		return apierrors.NewInternalError(errors.New("no authorizer provided, unable to authorize unsafe delete"))
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
		return apierrors.NewForbidden(t.GR(), t.Name, errors.New("not permitted to do \"unsafe-delete-ignore-read-errors\", reason: "+reason))
	}
	it, err := t.Store.Get(ctx, t.Namespace, t.Name, "")
	if err != nil {
		return err
	}
	if _, err := it.Object(); err == nil {
		return unsafeDelete(schema.GroupKind{Group: t.Resource.Group, Kind: t.Resource.Plural}, t.Name,
			"is exclusively used to delete corrupt object(s), try again by removing this option")
	}
	a.cfg.Log.Warn("object that cannot be read is removed", "resource", t.GR(), "namespace", t.Namespace, "name", t.Name)
	return t.Store.Purge(ctx, t.Namespace, t.Name)
}

// unsafeDelete refuses the option that deletes what cannot be read.
func unsafeDelete(kind schema.GroupKind, name, why string) error {
	return apierrors.NewInvalid(kind, name, field.ErrorList{field.Invalid(field.NewPath("ignoreStoreReadErrorWithClusterBreakingPotential"), true, why)})
}
