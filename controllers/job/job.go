// Package job runs pods until as many as a Job asks for have succeeded. Each pod
// carries a finalizer until its end is counted, so that no end is lost.
package job

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/controllers/adoption"
	"skiff/controllers/expectation"
	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

var kind = batch.SchemeGroupVersion.WithKind("Job")

const (
	orphanPrefix = "orphan/"
	// quiet is how long pod events are gathered before a Job is looked at.
	quiet = 100 * time.Millisecond
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller reconciles Jobs with their pods.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	jobs    batchlisters.JobLister
	pods    cache.SharedIndexInformer
	podList corelisters.PodLister
	control podcontrol.Control
	awaited *expectation.Tracker

	mu sync.Mutex // guards freed and written
	// freed are pods, by Job, whose finalizer was removed but is still in the
	// cache.
	freed map[string]map[types.UID]bool
	// written are Jobs as this controller wrote them last.
	written map[string]*batch.Job
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("job")
	if err != nil {
		return nil, err
	}
	jobs := parts.Informers.Batch().V1().Jobs()
	j := &Controller{
		parts:   parts,
		jobs:    jobs.Lister(),
		pods:    parts.Informers.Core().V1().Pods().Informer(),
		podList: parts.Informers.Core().V1().Pods().Lister(),
		control: podcontrol.Control{Client: parts.Client, Events: parts.Events},
		awaited: expectation.New(parts.Clock),
		freed:   map[string]map[types.UID]bool{},
		written: map[string]*batch.Job{},
	}
	if err := loop.IndexOwner(j.pods); err != nil {
		return nil, fmt.Errorf("job: index pods: %w", err)
	}
	j.Loop = loop.New("job", parts, j.sync)
	j.On(jobs.Informer(), loop.Handlers(
		func(o *batch.Job) { j.Enqueue(o) },
		func(old, o *batch.Job) {
			j.Enqueue(o)
			if o.Status.StartTime != nil && o.Spec.ActiveDeadlineSeconds != nil {
				j.EnqueueAfter(o, o.Status.StartTime.Add(time.Duration(*o.Spec.ActiveDeadlineSeconds)*time.Second).Sub(parts.Clock.Now()))
			}
		},
		j.jobGone))
	j.On(j.pods, adoption.Events[*v1.Pod]{
		Owner:    adoption.OwnerIn(kind.Kind, func(ns, name string) (*batch.Job, error) { return j.jobs.Jobs(ns).Get(name) }),
		Matching: j.matching,
		Created:  j.awaited.Created,
		Deleted:  func(key string, p *v1.Pod) { j.awaited.Deleted(key, p.Namespace+"/"+p.Name) },
		Enqueue:  func(key string) { j.AddAfter(key, quiet) },
	}.Handler())
	j.On(j.pods, loop.Each(j.podSeen))
	return j, nil
}

// podSeen keeps the list of freed pods short and frees pods of Jobs that are
// gone, which nobody counts any more.
func (c *Controller) podSeen(p *v1.Pod) {
	ref := metav1.GetControllerOfNoCopy(p)
	tracked := slices.Contains(p.Finalizers, batch.JobTrackingFinalizer)
	if ref != nil && ref.Kind == kind.Kind && !tracked {
		c.mu.Lock()
		delete(c.freed[p.Namespace+"/"+ref.Name], p.UID)
		c.mu.Unlock()
	}
	if !tracked {
		return
	}
	if ref != nil && ref.Kind == kind.Kind {
		if job, err := c.jobs.Jobs(p.Namespace).Get(ref.Name); err == nil && job.UID == ref.UID {
			return
		}
	}
	c.Add(orphanPrefix + p.Namespace + "/" + p.Name)
}

func (c *Controller) jobGone(job *batch.Job) {
	key := job.Namespace + "/" + job.Name
	c.awaited.Forget(key)
	c.Enqueue(job)
	pods, err := loop.ByIndex[*v1.Pod](c.pods, loop.ByOwner, string(job.UID))
	if err != nil {
		return
	}
	for _, p := range pods {
		if slices.Contains(p.Finalizers, batch.JobTrackingFinalizer) {
			c.Add(orphanPrefix + p.Namespace + "/" + p.Name)
		}
	}
}

func (c *Controller) matching(pod *v1.Pod) []string {
	all, err := c.jobs.Jobs(pod.Namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	return adoption.Selecting(all, pod.Labels, func(o *batch.Job) *metav1.LabelSelector { return o.Spec.Selector })
}

func (c *Controller) freedPods(key string) map[types.UID]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[types.UID]bool, len(c.freed[key]))
	for uid := range c.freed[key] {
		out[uid] = true
	}
	return out
}

// newest is the Job as the cache has it, or as this controller wrote it where the
// cache is behind: an index that is noted as done there may have no pod any more
// that tells so, and would be run again.
func (c *Controller) newest(key string, cached *batch.Job) *batch.Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.written[key]
	if own == nil || own.UID != cached.UID {
		return cached
	}
	if older, err := resourceversion.CompareResourceVersion(cached.ResourceVersion, own.ResourceVersion); err == nil && older < 0 {
		return own
	}
	delete(c.written, key)
	return cached
}

// syncOrphan frees a pod whose Job is gone.
func (c *Controller) syncOrphan(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	pod, err := c.podList.Pods(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil && ref.Kind == kind.Kind {
		job, err := c.parts.Client.BatchV1().Jobs(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err == nil && job.UID == ref.UID {
			return nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return c.free(ctx, pod)
}

// free removes the finalizer from a pod.
func (c *Controller) free(ctx context.Context, pod *v1.Pod) error {
	if !slices.Contains(pod.Finalizers, batch.JobTrackingFinalizer) {
		return nil
	}
	patch := fmt.Sprintf(`{"metadata":{"uid":%q,"$deleteFromPrimitiveList/finalizers":[%q]}}`, pod.UID, batch.JobTrackingFinalizer)
	_, err := c.parts.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Controller) sync(ctx context.Context, key string) error {
	if pod, ok := strings.CutPrefix(key, orphanPrefix); ok {
		return c.syncOrphan(ctx, pod)
	}
	namespace, name := loop.Split(key)
	shared, err := c.jobs.Jobs(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		c.awaited.Forget(key)
		c.mu.Lock()
		delete(c.freed, key)
		delete(c.written, key)
		c.mu.Unlock()
		return nil
	}
	if err != nil {
		return err
	}
	shared = c.newest(key, shared)
	if m := shared.Spec.ManagedBy; m != nil && *m != batch.JobControllerName {
		return nil
	}
	if Finished(shared) != nil {
		return nil
	}
	job := shared.DeepCopy()
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err != nil {
		return nil // the API refuses such a selector
	}
	settled := c.awaited.Satisfied(key)
	// Before the pods are read: a finalizer that is seen to be off in between would
	// still be on the pods, and they would be counted twice.
	freed := c.freedPods(key)
	candidates, err := loop.OwnedOrOrphan[*v1.Pod](c.pods, namespace, job.UID)
	if err != nil {
		return err
	}
	pods, err := adoption.Claim(ctx, adoption.Claimer{
		Controller: job, Kind: kind, Selector: selector, Finalizers: []string{batch.JobTrackingFinalizer},
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return c.parts.Client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		Patch: adoption.With(c.parts.Client.CoreV1().Pods(namespace)),
	}, candidates, nil)
	if err != nil {
		return err
	}
	return c.advance(ctx, key, job, pods, freed, settled)
}
