package replicaset

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/controllers/podcontrol"
)

func (c *Controller) execute(ctx context.Context, key string, r Replicas, plan Plan) error {
	if plan.Create > 0 {
		return c.create(ctx, key, r, plan.Create)
	}
	return c.remove(ctx, key, r, plan.Delete)
}

func (c *Controller) create(ctx context.Context, key string, r Replicas, n int) error {
	c.awaited.ExpectCreations(key, n)
	ref := metav1.NewControllerRef(r.Set, c.flavor.GVK)
	made, err := podcontrol.SlowStart(n, 1, func(int) error {
		pod := podcontrol.FromTemplate(&r.Set.Spec.Template, r.Set.Name, ref)
		_, err := c.control.Create(ctx, r.Set.Namespace, pod, r.Owner)
		if apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
			return nil // every further creation is refused too; the namespace goes away
		}
		if err != nil {
			// The informer will not show this pod; a retry re-reads everything.
			c.awaited.Created(key)
		}
		return err
	})
	if skipped := n - made; err != nil && skipped > 0 {
		c.awaited.Forget(key)
	}
	return err
}

func (c *Controller) remove(ctx context.Context, key string, r Replicas, victims []*v1.Pod) error {
	if len(victims) == 0 {
		return nil
	}
	names := make([]string, len(victims))
	for i, p := range victims {
		names[i] = nameOf(p)
	}
	c.awaited.ExpectDeletions(key, names...)
	var errs []error
	for i, p := range victims {
		err := c.control.Delete(ctx, p.Namespace, p.Name, r.Owner)
		if err != nil {
			c.awaited.Deleted(key, names[i])
			if !apierrors.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
