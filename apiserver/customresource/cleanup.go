package customresource

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/request"
	"skiff/apiserver/store"
)

const (
	// emptyWithin is how long one attempt waits for finalizers of objects.
	emptyWithin = time.Minute
	emptyCheck  = 250 * time.Millisecond
	// cleaners is how many resources are emptied at once.
	cleaners = 5
)

// cleanUp empties the resources of definitions that are being deleted.
func (c *Controller) cleanUp(ctx context.Context) {
	for {
		name, done := c.cleanups.Get()
		if done {
			return
		}
		if err := c.empty(ctx, name); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("objects of a deleted custom resource definition are still there; trying again", "name", name, "err", err)
			c.cleanups.AddRateLimited(name)
		} else {
			c.cleanups.Forget(name)
		}
		c.cleanups.Done(name)
	}
}

func terminating(status v1.ConditionStatus, reason, message string) v1.CustomResourceDefinitionCondition {
	return v1.CustomResourceDefinitionCondition{Type: v1.Terminating, Status: status, Reason: reason, Message: message}
}

// empty deletes every object of a definition that is being deleted, and lets the
// definition go.
func (c *Controller) empty(ctx context.Context, name string) error {
	client := c.cfg.Client.ApiextensionsV1().CustomResourceDefinitions()
	crd, err := client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if crd.DeletionTimestamp.IsZero() || !apihelpers.CRDHasFinalizer(crd, v1.CustomResourceCleanupFinalizer) {
		return nil
	}
	write := func(cond v1.CustomResourceDefinitionCondition) error {
		apihelpers.SetCRDCondition(crd, cond)
		out, err := client.UpdateStatus(ctx, crd, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		crd = out
		return nil
	}
	if err := gone(write(terminating(v1.ConditionTrue, "InstanceDeletionInProgress", "CustomResource deletion is in progress"))); err != nil {
		return err
	}
	gr := schema.GroupResource{Group: crd.Spec.Group, Resource: crd.Spec.Names.Plural}
	var end v1.CustomResourceDefinitionCondition
	switch {
	case c.overlaps(gr):
		end = terminating(v1.ConditionFalse, "OverlappingBuiltInResource", "instances overlap with built-in resources in storage")
	case !apihelpers.IsCRDConditionTrue(crd, v1.Established):
		end = terminating(v1.ConditionFalse, "NeverEstablished", "resource was never established")
	default:
		cond, err := c.deleteObjects(ctx, gr)
		if err != nil {
			if werr := gone(write(cond)); werr != nil && ctx.Err() == nil {
				c.cfg.Log.Warn("condition cannot be written", "name", name, "err", werr)
			}
			return err
		}
		end = cond
	}
	apihelpers.CRDRemoveFinalizer(crd, v1.CustomResourceCleanupFinalizer)
	return gone(write(end))
}

// gone takes it well that the definition went meanwhile. A conflict is an error: the
// attempt is made again on the new state.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// deleteObjects deletes all objects of a resource through admission, and waits
// until they are gone.
func (c *Controller) deleteObjects(ctx context.Context, gr schema.GroupResource) (v1.CustomResourceDefinitionCondition, error) {
	failed := func(reason, text string, err error) (v1.CustomResourceDefinitionCondition, error) {
		return terminating(v1.ConditionTrue, reason, fmt.Sprintf("%s: %v", text, err)), err
	}
	t, ok := c.cfg.API.Hub(gr, "", "")
	if !ok {
		return failed("InstanceDeletionFailed", "could not list instances", fmt.Errorf("unable to find a custom resource client for %s", gr))
	}
	ctx = request.WithUser(ctx, &user.DefaultInfo{Name: "system:apiserver", Groups: []string{user.SystemPrivilegedGroup}})
	l, err := t.Store.List(ctx, store.ListOptions{})
	if err != nil {
		return failed("InstanceDeletionFailed", "could not list instances", err)
	}
	var errs []error
	for _, it := range l.Items {
		obj, err := it.Object()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m, err := meta.Accessor(obj)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		own := *t
		own.Namespace, own.Name = m.GetNamespace(), m.GetName()
		if _, _, err := c.cfg.API.Delete(ctx, &own, &metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	if err := utilerrors.NewAggregate(errs); err != nil {
		return failed("InstanceDeletionFailed", "could not issue all deletes", err)
	}
	if err := waitEmpty(ctx, t.Store); err != nil {
		return failed("InstanceDeletionCheck", "could not confirm zero CustomResources remaining", err)
	}
	return terminating(v1.ConditionFalse, "InstanceDeletionCompleted", "removed all instances"), nil
}

func waitEmpty(ctx context.Context, s *store.Store) error {
	ctx, cancel := context.WithTimeout(ctx, emptyWithin)
	defer cancel()
	tick := time.NewTicker(emptyCheck)
	defer tick.Stop()
	for {
		l, err := s.List(ctx, store.ListOptions{Limit: 1})
		if err != nil {
			return err
		}
		if len(l.Items) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
