package controllers

import (
	"k8s.io/apimachinery/pkg/api/meta"
)

// trim drops what no controller reads from objects of the cache.
func trim(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil && o.GetManagedFields() != nil {
		o.SetManagedFields(nil)
	}
	return obj, nil
}
