// Package lookup finds objects for admission: in the cache, and where that may
// be behind, in the store.
package lookup

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Get asks the lister first; what it does not know is looked up live.
func Get[T any](ctx context.Context, name string, lister func(string) (T, error), live func(context.Context, string, metav1.GetOptions) (T, error)) (T, error) {
	obj, err := lister(name)
	if err == nil || !apierrors.IsNotFound(err) {
		return obj, err
	}
	return live(ctx, name, metav1.GetOptions{})
}
