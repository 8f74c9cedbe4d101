package apiserver

import (
	"fmt"
	"slices"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"skiff/apiserver/openapi"
)

// builtinTypes knows the schemas of every built-in kind: client-go has most of
// them, the published documents those of the two groups that it lacks.
type builtinTypes struct {
	managedfields.TypeConverter
	extra map[string]func() (managedfields.TypeConverter, error)
	// known has a typed.ParseableType for each kind that was typed before.
	known sync.Map
}

func newBuiltinTypes(docs *openapi.OpenAPI) *builtinTypes {
	c := &builtinTypes{TypeConverter: applyconfigurations.NewTypeConverter(scheme.Scheme), extra: map[string]func() (managedfields.TypeConverter, error){}}
	for _, group := range []string{apiextensionsv1.GroupName, apiregistrationv1.GroupName} {
		c.extra[group] = sync.OnceValues(func() (managedfields.TypeConverter, error) {
			models, err := docs.Models("apis/" + group + "/v1")
			if err != nil {
				return nil, err
			}
			return managedfields.NewTypeConverter(models, false)
		})
	}
	return c
}

// ObjectToTyped implements managedfields.TypeConverter. An object that may have
// duplicates is one that is or will be stored, and a Go struct of the kind: to
// validate it by its schema finds nothing, and was a tenth of what an update costs.
func (c *builtinTypes) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	_, loose := obj.(runtime.Unstructured)
	stored := !loose && slices.Contains(opts, typed.AllowDuplicates)
	if known, ok := c.known.Load(gvk); ok && stored {
		kind := known.(typed.ParseableType)
		v, err := value.NewValueReflect(obj)
		if err != nil {
			return nil, fmt.Errorf("the fields of %s: %w", gvk.Kind, err)
		}
		return typed.AsTypedUnvalidated(v, kind.Schema, kind.TypeRef), nil
	}
	types := c.TypeConverter
	if make := c.extra[gvk.Group]; make != nil {
		var err error
		if types, err = make(); err != nil {
			return nil, err
		}
	}
	out, err := types.ObjectToTyped(obj, opts...)
	if err == nil && stored {
		c.known.Store(gvk, typed.ParseableType{TypeRef: out.TypeRef(), Schema: out.Schema()})
	}
	return out, err
}
