package handlers

import (
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// shallow copies an object's outermost struct: enough to set its type or its
// managed fields without touching the original.
func shallow(obj runtime.Object) runtime.Object {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		out := &unstructured.Unstructured{Object: make(map[string]any, len(u.Object))}
		for k, v := range u.Object {
			out.Object[k] = v
		}
		if m, ok := u.Object["metadata"].(map[string]any); ok {
			meta := make(map[string]any, len(m))
			for k, v := range m {
				meta[k] = v
			}
			out.Object["metadata"] = meta
		}
		return out
	}
	v := reflect.ValueOf(obj)
	out := reflect.New(v.Type().Elem())
	out.Elem().Set(v.Elem())
	return out.Interface().(runtime.Object)
}
