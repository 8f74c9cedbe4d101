package handlers

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/admission"
)

// AdmitCreate runs the admission of a create that a connector answers itself: a
// binding, an eviction, a token. Mutators may change obj; what they return is
// what counts.
func (a *API) AdmitCreate(ctx context.Context, t *Target, obj, options runtime.Object, dry bool) (runtime.Object, error) {
	chain := a.cfg.Admission()
	at := a.attributes(ctx, t, admission.Create, obj, nil, options, dry)
	if err := ofKind(at, obj); err != nil {
		return nil, err
	}
	if err := chain.Admit(ctx, at); err != nil {
		return nil, err
	}
	if err := chain.Validate(ctx, at); err != nil {
		undo(ctx, at)
		return nil, err
	}
	return at.Object, nil
}
