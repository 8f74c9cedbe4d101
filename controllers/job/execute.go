package job

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"skiff/controllers/podcontrol"
)

// advance is one step of a Job that has not ended. freed are the pods whose
// finalizer this controller has taken off.
func (c *Controller) advance(ctx context.Context, key string, job *batch.Job, pods []*v1.Pod, freed map[types.UID]bool, settled bool) error {
	now := c.parts.Clock.Now()
	if job.Status.StartTime == nil && !suspended(job) {
		job.Status.StartTime = ptr.To(metav1.NewTime(now))
		if d, ok := deadline(job, now); ok {
			c.AddAfter(key, d)
		}
	}
	t := Count(job, pods, freed, "")
	end := Ending(job, t, pods, now)
	var ending batch.JobConditionType
	if end != nil {
		ending = end.Type
		t = Count(job, pods, freed, ending)
	}
	var failure error
	if settled {
		plan := MakePlan(job, t, pods, end != nil, now)
		var made int
		made, failure = c.execute(ctx, key, job, pods, plan)
		t.Status.Active += int32(made) - int32(len(plan.Delete))
		t.Status.Active = max(0, t.Status.Active)
		if job.Spec.PodReplacementPolicy != nil || len(plan.Delete) > 0 {
			t.Status.Terminating = ptr.To(ptr.Deref(t.Status.Terminating, 0) + int32(len(plan.Delete)))
		}
		if plan.Wait > 0 {
			c.AddAfter(key, plan.Wait)
		}
		c.noteSuspension(job, &t.Status)
	}
	if end != nil && condition(t.Status, end.Type) == nil {
		t.Status.Conditions = append(t.Status.Conditions, *end)
	}
	job, err := c.write(ctx, job, t.Status)
	if err != nil {
		return errors.Join(failure, err)
	}
	if err := c.freeAll(ctx, key, job, t.Free); err != nil {
		return errors.Join(failure, err)
	}
	// With the finalizers off, the counters can take over at once.
	for _, p := range t.Free {
		freed[p.UID] = true
	}
	t = Count(job, pods, freed, ending)
	t.Status.Active, t.Status.Ready, t.Status.Terminating = job.Status.Active, job.Status.Ready, job.Status.Terminating
	if u := t.Status.UncountedTerminatedPods; end != nil && len(u.Succeeded)+len(u.Failed) == 0 && t.Status.Active == 0 && ptr.Deref(t.Status.Terminating, 0) == 0 {
		c.finish(job, &t.Status, end)
	}
	_, err = c.write(ctx, job, t.Status)
	return errors.Join(failure, err)
}

// finish gives the Job its last condition.
func (c *Controller) finish(job *batch.Job, s *batch.JobStatus, why *batch.JobCondition) {
	now := metav1.NewTime(c.parts.Clock.Now())
	last := *why
	last.Type = batch.JobComplete
	if why.Type == batch.JobFailureTarget {
		last.Type = batch.JobFailed
	}
	last.LastProbeTime, last.LastTransitionTime = now, now
	s.Conditions = append(s.Conditions, last)
	s.Ready = ptr.To[int32](0)
	if last.Type == batch.JobComplete {
		s.CompletionTime = &now
		c.parts.Events.Event(job, v1.EventTypeNormal, "Completed", "Job completed")
	} else {
		c.parts.Events.Event(job, v1.EventTypeWarning, last.Reason, last.Message)
	}
}

// noteSuspension keeps the Suspended condition and the start time.
func (c *Controller) noteSuspension(job *batch.Job, s *batch.JobStatus) {
	now := metav1.NewTime(c.parts.Clock.Now())
	set := func(status v1.ConditionStatus, reason, message string) bool {
		old := condition(*s, batch.JobSuspended)
		switch {
		case old == nil && status == v1.ConditionFalse, old != nil && old.Status == status:
			return false
		case old == nil:
			s.Conditions = append(s.Conditions, batch.JobCondition{Type: batch.JobSuspended})
			old = &s.Conditions[len(s.Conditions)-1]
		}
		old.Status, old.Reason, old.Message, old.LastProbeTime, old.LastTransitionTime = status, reason, message, now, now
		return true
	}
	if suspended(job) {
		if set(v1.ConditionTrue, "JobSuspended", "Job suspended") {
			c.parts.Events.Event(job, v1.EventTypeNormal, "Suspended", "Job suspended")
			s.StartTime = nil
		}
		return
	}
	if set(v1.ConditionFalse, "JobResumed", "Job resumed") {
		c.parts.Events.Event(job, v1.EventTypeNormal, "Resumed", "Job resumed")
		s.StartTime = &now
	}
}

func (c *Controller) write(ctx context.Context, job *batch.Job, s batch.JobStatus) (*batch.Job, error) {
	if equality.Semantic.DeepEqual(job.Status, s) && job.ResourceVersion != "" && c.same(job, s) {
		return job, nil
	}
	next := job.DeepCopy()
	next.Status = s
	updated, err := c.parts.Client.BatchV1().Jobs(job.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.written[job.Namespace+"/"+job.Name] = updated
	c.mu.Unlock()
	return updated, nil
}

// same compares with what is stored: a start time set on the copy is a change.
func (c *Controller) same(job *batch.Job, s batch.JobStatus) bool {
	stored, err := c.jobs.Jobs(job.Namespace).Get(job.Name)
	return err != nil || stored.ResourceVersion != job.ResourceVersion || equality.Semantic.DeepEqual(stored.Status, s)
}

// freeAll removes the finalizer from pods that are counted in job's status.
func (c *Controller) freeAll(ctx context.Context, key string, job *batch.Job, pods []*v1.Pod) error {
	errs := make([]error, len(pods))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i, p := range pods {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if errs[i] = c.free(ctx, p); errs[i] != nil {
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.freed[key] == nil {
				c.freed[key] = map[types.UID]bool{}
			}
			c.freed[key][p.UID] = true
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("job %s: remove finalizers: %w", job.Name, err)
	}
	return nil
}

// execute returns how many pods it made.
func (c *Controller) execute(ctx context.Context, key string, job *batch.Job, pods []*v1.Pod, plan Plan) (int, error) {
	if len(plan.Delete) > 0 {
		names := make([]string, len(plan.Delete))
		for i, p := range plan.Delete {
			names[i] = p.Namespace + "/" + p.Name
		}
		c.awaited.ExpectDeletions(key, names...)
		var errs []error
		for i, p := range plan.Delete {
			if err := c.control.Delete(ctx, p.Namespace, p.Name, job); err != nil {
				c.awaited.Deleted(key, names[i])
				if !apierrors.IsNotFound(err) {
					errs = append(errs, err)
				}
			}
		}
		if err := errors.Join(errs...); err != nil {
			return 0, err
		}
	}
	if plan.Create == 0 {
		return 0, nil
	}
	last := latestByIndex(job, pods)
	c.awaited.ExpectCreations(key, plan.Create)
	made, err := podcontrol.SlowStart(plan.Create, 1, func(i int) error {
		pod := podcontrol.FromTemplate(&job.Spec.Template, job.Name, metav1.NewControllerRef(job, kind))
		pod.Finalizers = append(pod.Finalizers, batch.JobTrackingFinalizer)
		if plan.Indexes != nil {
			Number(pod, job, plan.Indexes[i], last[plan.Indexes[i]])
		}
		_, err := c.control.Create(ctx, job.Namespace, pod, job)
		if apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			c.awaited.Created(key)
		}
		return err
	})
	if err != nil {
		// The rest was never asked for.
		c.awaited.Forget(key)
	}
	return made, err
}

// Number makes the pod the one of an index; last is the index's previous pod.
func Number(pod *v1.Pod, job *batch.Job, index int, last *v1.Pod) {
	n := strconv.Itoa(index)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[batch.JobCompletionIndexAnnotation] = n
	pod.Labels = maps.Clone(pod.Labels)
	pod.Labels[batch.JobCompletionIndexAnnotation] = n
	if job.Spec.BackoffLimitPerIndex != nil {
		counted, ignored := 0, 0
		if last != nil {
			counted, ignored = failuresOf(last)
			if Judge(job, last).Action == batch.PodFailurePolicyActionIgnore {
				ignored++
			} else {
				counted++
			}
		}
		pod.Annotations[indexFailures] = strconv.Itoa(counted)
		if ignored > 0 {
			pod.Annotations[indexIgnoredFailures] = strconv.Itoa(ignored)
		}
	}
	pod.Spec.Hostname = job.Name + "-" + n
	pod.GenerateName = job.Name + "-" + n + "-"
	for _, containers := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			if slices.ContainsFunc(c.Env, func(e v1.EnvVar) bool { return e.Name == "JOB_COMPLETION_INDEX" }) {
				continue
			}
			c.Env = append(c.Env, v1.EnvVar{Name: "JOB_COMPLETION_INDEX", ValueFrom: &v1.EnvVarSource{
				FieldRef: &v1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.labels['%s']", batch.JobCompletionIndexAnnotation)},
			}})
		}
	}
}
