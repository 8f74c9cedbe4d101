package setup

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
)

// typed is the part of a typed client that ensure needs.
type typed[T runtime.Object] interface {
	Create(ctx context.Context, obj T, opts metav1.CreateOptions) (T, error)
	Update(ctx context.Context, obj T, opts metav1.UpdateOptions) (T, error)
}

// ensure creates obj, or replaces what is there.
func ensure[T runtime.Object](ctx context.Context, client typed[T], obj T) error {
	_, err := client.Create(ctx, obj, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = client.Update(ctx, obj, metav1.UpdateOptions{})
	}
	return err
}

// ensureAll stores objects of the kinds that the phases write.
func ensureAll(ctx context.Context, client kubernetes.Interface, objects []runtime.Object) error {
	for _, obj := range objects {
		var err error
		switch o := obj.(type) {
		case *corev1.ConfigMap:
			err = ensure(ctx, client.CoreV1().ConfigMaps(o.Namespace), o)
		case *corev1.Secret:
			err = ensure(ctx, client.CoreV1().Secrets(o.Namespace), o)
		case *corev1.Service:
			// A Service has allocated fields that an update must carry: keep it.
			_, err = client.CoreV1().Services(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				err = nil
			}
		case *rbacv1.Role:
			err = ensure(ctx, client.RbacV1().Roles(o.Namespace), o)
		case *rbacv1.RoleBinding:
			err = ensure(ctx, client.RbacV1().RoleBindings(o.Namespace), o)
		case *rbacv1.ClusterRole:
			err = ensure(ctx, client.RbacV1().ClusterRoles(), o)
		case *rbacv1.ClusterRoleBinding:
			err = ensure(ctx, client.RbacV1().ClusterRoleBindings(), o)
		default:
			return fmt.Errorf("no way to store a %T", obj)
		}
		if err != nil {
			name := ""
			if m, ok := obj.(metav1.Object); ok {
				name = m.GetName()
			}
			return fmt.Errorf("store %T %s: %w", obj, name, err)
		}
	}
	return nil
}
