package webhook

import (
	"encoding/json"
	"fmt"
	"reflect"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	"skiff/apiserver/admission"
)

// Rewrite has change make a new object of the request's, which it sees in the
// version of kind. What it leaves out is defaulted. An error of change is returned as it is.
func Rewrite(a *admission.Attributes, kind schema.GroupVersionKind, change func(runtime.Object) (runtime.Object, error)) error {
	hub, err := hubKind(a.Object)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	current, err := inVersion(a, a.Object, kind)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	next, err := change(current)
	if err != nil {
		return err
	}
	if a.Default != nil {
		a.Default(next)
	}
	if kind := current.GetObjectKind().GroupVersionKind(); kind != hub && a.Convert != nil {
		if next, err = a.Convert(next, hub); err != nil {
			return apierrors.NewInternalError(err)
		}
	}
	a.Object = next
	return nil
}

// Unreadable is what a patch made of an object, and its kind does not have.
type Unreadable struct{ error }

// Unwrap is the reason.
func (e Unreadable) Unwrap() error { return e.error }

// Patched is an object with a JSON patch applied. Where strict is set, it must not
// bring fields that the kind does not have.
func Patched(obj runtime.Object, patch jsonpatch.Patch, strict bool) (runtime.Object, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	if data, err = patch.Apply(data); err != nil {
		return nil, err
	}
	next, ok := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(runtime.Object)
	if !ok {
		return nil, fmt.Errorf("unexpected type %T", obj)
	}
	if !strict {
		if err := unmarshal(data, next); err != nil {
			return nil, Unreadable{err}
		}
		return next, nil
	}
	unknown, err := kjson.UnmarshalStrict(data, next)
	if err == nil && len(unknown) > 0 {
		err = runtime.NewStrictDecodingError(unknown)
	}
	if err != nil {
		return nil, Unreadable{err}
	}
	return next, nil
}
