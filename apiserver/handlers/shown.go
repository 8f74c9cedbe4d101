package handlers

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/admission"
)

// Shown is what admission sees of a write by a subresource that has a kind of its
// own, as Scale, in place of the whole object.
type Shown struct {
	Kind schema.GroupVersionKind
	// Of makes it from an object of the hub.
	Of func(obj runtime.Object) (runtime.Object, error)
	// Take puts what admission made of it into the object.
	Take func(obj, shown runtime.Object) error
}

// admit runs the plugins that change what is shown of an object, and changes the
// object in the same way.
func (s *Shown) admit(ctx context.Context, chain admission.Chain, at *admission.Attributes) error {
	obj := at.Object
	shown, err := s.Of(obj)
	if err != nil {
		return err
	}
	was, err := s.Of(at.OldObject)
	if err != nil {
		return err
	}
	at.Kind, at.Object, at.OldObject = s.Kind, shown, was
	if err := chain.Admit(ctx, at); err != nil {
		return err
	}
	if at.Object == nil {
		return apierrors.NewInternalError(errors.New("admission took the object away"))
	}
	return s.Take(obj, at.Object)
}
