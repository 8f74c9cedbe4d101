// Package ttlafterfinished deletes Jobs when the time that they asked to be
// kept after their end is over.
package ttlafterfinished

import (
	"context"
	"time"

	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	batchlisters "k8s.io/client-go/listers/batch/v1"

	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller deletes ended Jobs.
type Controller struct {
	*loop.Loop
	parts loop.Parts
	jobs  batchlisters.JobLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("ttl-after-finished")
	if err != nil {
		return nil, err
	}
	jobs := parts.Informers.Batch().V1().Jobs()
	t := &Controller{parts: parts, jobs: jobs.Lister()}
	t.Loop = loop.New("ttl-after-finished", parts, t.sync)
	t.On(jobs.Informer(), loop.Changed(func(j *batch.Job) {
		if _, ok := expiry(j); ok {
			t.Enqueue(j)
		}
	}))
	return t, nil
}

// expiry is when the job may go; false when it has no end or no limit.
func expiry(j *batch.Job) (time.Time, bool) {
	if j.Spec.TTLSecondsAfterFinished == nil || j.DeletionTimestamp != nil {
		return time.Time{}, false
	}
	for _, c := range j.Status.Conditions {
		if (c.Type == batch.JobComplete || c.Type == batch.JobFailed) && c.Status == v1.ConditionTrue && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime.Add(time.Duration(*j.Spec.TTLSecondsAfterFinished) * time.Second), true
		}
	}
	return time.Time{}, false
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	job, err := c.jobs.Jobs(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	at, ok := expiry(job)
	if !ok {
		return nil
	}
	if left := at.Sub(c.parts.Clock.Now()); left > 0 {
		c.AddAfter(key, left)
		return nil
	}
	// The cache may be old: the limit could have been raised meanwhile.
	client := c.parts.Client.BatchV1().Jobs(namespace)
	fresh, err := client.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	at, ok = expiry(fresh)
	if !ok {
		return nil
	}
	if left := at.Sub(c.parts.Clock.Now()); left > 0 {
		c.AddAfter(key, left)
		return nil
	}
	policy := metav1.DeletePropagationForeground
	err = client.Delete(ctx, name, metav1.DeleteOptions{
		PropagationPolicy: &policy,
		Preconditions:     &metav1.Preconditions{UID: &fresh.UID, ResourceVersion: &fresh.ResourceVersion},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
