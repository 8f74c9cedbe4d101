package connect

import (
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"skiff/apiserver/handlers"
)

// scaledCustom reads the scale of a custom resource from the fields that its
// definition names.
func scaledCustom(t *handlers.Target, u *unstructured.Unstructured) (scaled, error) {
	paths := t.Resource.Subresources["scale"].Scale
	if paths == nil {
		return scaled{}, fmt.Errorf("%s has no scale", t.GR())
	}
	wished, found, err := unstructured.NestedInt64(u.Object, paths.Replicas...)
	if err != nil {
		return scaled{}, err
	}
	current, _, err := unstructured.NestedInt64(u.Object, paths.StatusReplicas...)
	if err != nil {
		return scaled{}, err
	}
	selector := ""
	if len(paths.Selector) > 0 {
		if selector, _, err = unstructured.NestedString(u.Object, paths.Selector...); err != nil {
			return scaled{}, err
		}
	}
	s := scaled{
		meta: &metav1.ObjectMeta{
			Name: u.GetName(), Namespace: u.GetNamespace(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(), CreationTimestamp: u.GetCreationTimestamp(),
		},
		status: int32(current), selector: selector,
	}
	var replicas *int32
	if found {
		n := int32(wished)
		replicas = &n
	}
	s.replicas = &replicas
	s.store = func() error {
		u.SetResourceVersion(s.meta.ResourceVersion)
		return unstructured.SetNestedField(u.Object, int64(*replicas), paths.Replicas...)
	}
	return s, nil
}

// noReplicas is the answer for a custom resource that does not say how many it wants.
func noReplicas(t *handlers.Target) error {
	paths := t.Resource.Subresources["scale"].Scale
	return apierrors.NewInternalError(fmt.Errorf("the spec replicas field %q does not exist", "."+strings.Join(paths.Replicas, ".")))
}
