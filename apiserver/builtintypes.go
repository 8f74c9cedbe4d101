package apiserver

import (
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"skiff/apiserver/openapi"
)

// builtinTypes knows the schemas of every built-in kind: client-go has most of
// them, the published documents those of the two groups that it lacks.
type builtinTypes struct {
	managedfields.TypeConverter
	extra map[string]func() (managedfields.TypeConverter, error)
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

// ObjectToTyped implements managedfields.TypeConverter.
func (c *builtinTypes) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if make := c.extra[obj.GetObjectKind().GroupVersionKind().Group]; make != nil {
		own, err := make()
		if err != nil {
			return nil, err
		}
		return own.ObjectToTyped(obj, opts...)
	}
	return c.TypeConverter.ObjectToTyped(obj, opts...)
}
