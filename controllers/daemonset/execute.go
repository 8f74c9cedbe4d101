package daemonset

import (
	"context"
	"errors"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"skiff/controllers/podcontrol"
)

func (c *Controller) execute(ctx context.Context, key string, ds *apps.DaemonSet, plan Plan, hash string) error {
	for _, p := range plan.Ended {
		if p.Status.Phase == v1.PodFailed {
			c.parts.Events.Eventf(ds, v1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s/%s on node %s, will try to kill it", p.Namespace, p.Name, p.Spec.NodeName)
		} else {
			c.parts.Events.Eventf(ds, v1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod %s/%s on node %s, will try to delete it", p.Namespace, p.Name, p.Spec.NodeName)
		}
	}
	c.awaited.ExpectCreations(key, len(plan.Create))
	names := make([]string, len(plan.Delete))
	for i, p := range plan.Delete {
		names[i] = p.Namespace + "/" + p.Name
	}
	c.awaited.ExpectDeletions(key, names...)
	made, err := podcontrol.SlowStart(len(plan.Create), 1, func(i int) error {
		_, err := c.control.Create(ctx, ds.Namespace, NewPod(ds, plan.Create[i], hash), ds)
		if apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			c.awaited.Created(key)
		}
		return err
	})
	errs := []error{err}
	if err != nil {
		c.awaited.CreatedN(key, len(plan.Create)-made)
	}
	for i, p := range plan.Delete {
		if err := c.control.Delete(ctx, p.Namespace, p.Name, ds); err != nil {
			c.awaited.Deleted(key, names[i])
			if !apierrors.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
