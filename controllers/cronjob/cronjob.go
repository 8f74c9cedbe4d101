// Package cronjob makes Jobs at the times of a schedule.
package cronjob

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"skiff/controllers/loop"
)

var kind = batch.SchemeGroupVersion.WithKind("CronJob")

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller makes and prunes the Jobs of CronJobs.
type Controller struct {
	*loop.Loop
	parts loop.Parts
	crons batchlisters.CronJobLister
	jobs  cache.SharedIndexInformer
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("cronjob")
	if err != nil {
		return nil, err
	}
	group := parts.Informers.Batch().V1()
	j := &Controller{parts: parts, crons: group.CronJobs().Lister(), jobs: group.Jobs().Informer()}
	if err := loop.IndexOwner(j.jobs); err != nil {
		return nil, fmt.Errorf("cronjob: index jobs: %w", err)
	}
	j.Loop = loop.New("cronjob", parts, j.sync)
	j.On(group.CronJobs().Informer(), loop.Each(func(o *batch.CronJob) { j.Enqueue(o) }))
	j.On(j.jobs, loop.Each(func(job *batch.Job) {
		ref := metav1.GetControllerOfNoCopy(job)
		if ref != nil && ref.Kind == kind.Kind {
			j.Add(job.Namespace + "/" + ref.Name)
		}
	}))
	return j, nil
}

func finished(j *batch.Job) (batch.JobConditionType, bool) {
	for _, c := range j.Status.Conditions {
		if (c.Type == batch.JobComplete || c.Type == batch.JobFailed) && c.Status == v1.ConditionTrue {
			return c.Type, true
		}
	}
	return "", false
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	shared, err := c.crons.CronJobs(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	cj := shared.DeepCopy()
	jobs, err := loop.ByIndex[*batch.Job](c.jobs, loop.ByOwner, string(cj.UID))
	if err != nil {
		return err
	}
	if err := c.prune(ctx, cj, jobs); err != nil {
		return err
	}
	if err := c.refresh(ctx, cj, jobs); err != nil {
		return err
	}
	if !equality.Semantic.DeepEqual(shared.Status, cj.Status) {
		if cj, err = c.write(ctx, cj); err != nil {
			return err
		}
	}
	return c.run(ctx, key, cj, jobs)
}

func (c *Controller) write(ctx context.Context, cj *batch.CronJob) (*batch.CronJob, error) {
	updated, err := c.parts.Client.BatchV1().CronJobs(cj.Namespace).UpdateStatus(ctx, cj, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("cronjob %s/%s: update status: %w", cj.Namespace, cj.Name, err)
	}
	return updated, nil
}

// Surplus lists the ended Jobs beyond the history limits, eldest first.
func Surplus(cj *batch.CronJob, jobs []*batch.Job) []*batch.Job {
	var good, bad []*batch.Job
	for _, j := range jobs {
		switch kind, ok := finished(j); {
		case !ok:
		case kind == batch.JobComplete:
			good = append(good, j)
		default:
			bad = append(bad, j)
		}
	}
	cut := func(list []*batch.Job, limit *int32) []*batch.Job {
		n := 0
		if limit != nil {
			n = len(list) - int(*limit)
		}
		if n <= 0 {
			return nil
		}
		slices.SortFunc(list, func(a, b *batch.Job) int {
			return cmp.Or(startOf(a).Compare(startOf(b)), cmp.Compare(a.Name, b.Name))
		})
		return list[:n]
	}
	return append(cut(good, cj.Spec.SuccessfulJobsHistoryLimit), cut(bad, cj.Spec.FailedJobsHistoryLimit)...)
}

func startOf(j *batch.Job) time.Time {
	if j.Status.StartTime == nil {
		return time.Time{}
	}
	return j.Status.StartTime.Time
}

func (c *Controller) prune(ctx context.Context, cj *batch.CronJob, jobs []*batch.Job) error {
	for _, j := range Surplus(cj, jobs) {
		if err := c.remove(ctx, cj, j); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) remove(ctx context.Context, cj *batch.CronJob, j *batch.Job) error {
	background := metav1.DeletePropagationBackground
	err := c.parts.Client.BatchV1().Jobs(j.Namespace).Delete(ctx, j.Name, metav1.DeleteOptions{PropagationPolicy: &background})
	if err != nil && !apierrors.IsNotFound(err) {
		c.parts.Events.Eventf(cj, v1.EventTypeWarning, "FailedDelete", "Deleted job: %v", err)
		return fmt.Errorf("delete job %s/%s: %w", j.Namespace, j.Name, err)
	}
	cj.Status.Active = slices.DeleteFunc(cj.Status.Active, func(r v1.ObjectReference) bool { return r.UID == j.UID })
	c.parts.Events.Eventf(cj, v1.EventTypeNormal, "SuccessfulDelete", "Deleted job %v", j.Name)
	return nil
}

// refresh brings the list of active Jobs in line with the Jobs.
func (c *Controller) refresh(ctx context.Context, cj *batch.CronJob, jobs []*batch.Job) error {
	mine := map[types.UID]bool{}
	for _, j := range jobs {
		mine[j.UID] = true
		active := slices.ContainsFunc(cj.Status.Active, func(r v1.ObjectReference) bool { return r.UID == j.UID })
		outcome, ended := finished(j)
		switch {
		case !active && !ended:
			// The cache may not have the status yet that a sync wrote for this Job.
			live, err := c.parts.Client.BatchV1().CronJobs(cj.Namespace).Get(ctx, cj.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if slices.ContainsFunc(live.Status.Active, func(r v1.ObjectReference) bool { return r.UID == j.UID }) {
				live.DeepCopyInto(cj)
				continue
			}
			c.parts.Events.Eventf(cj, v1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
		case active && ended:
			cj.Status.Active = slices.DeleteFunc(cj.Status.Active, func(r v1.ObjectReference) bool { return r.UID == j.UID })
			c.parts.Events.Eventf(cj, v1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, outcome)
		}
		if ended && outcome == batch.JobComplete && j.Status.CompletionTime != nil &&
			(cj.Status.LastSuccessfulTime == nil || cj.Status.LastSuccessfulTime.Before(j.Status.CompletionTime)) {
			cj.Status.LastSuccessfulTime = j.Status.CompletionTime
		}
	}
	for _, ref := range slices.Clone(cj.Status.Active) {
		if mine[ref.UID] {
			continue
		}
		// The cache may be late with a Job that was just made.
		_, err := c.parts.Client.BatchV1().Jobs(cj.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if apierrors.IsNotFound(err) {
			c.parts.Events.Eventf(cj, v1.EventTypeNormal, "MissingJob", "Active job went missing: %v", ref.Name)
			cj.Status.Active = slices.DeleteFunc(cj.Status.Active, func(r v1.ObjectReference) bool { return r.UID == ref.UID })
		}
	}
	return nil
}

// run starts what is due and wakes at the next time.
func (c *Controller) run(ctx context.Context, key string, cj *batch.CronJob, jobs []*batch.Job) error {
	if cj.DeletionTimestamp != nil || ptr.Deref(cj.Spec.Suspend, false) {
		return nil
	}
	now := c.parts.Clock.Now()
	schedule, err := Parse(cj)
	if err != nil {
		reason := "UnparseableSchedule"
		if cj.Spec.TimeZone != nil {
			if _, zone := time.LoadLocation(*cj.Spec.TimeZone); zone != nil {
				c.parts.Events.Eventf(cj, v1.EventTypeWarning, "UnknownTimeZone", "invalid timeZone: %q: %s", *cj.Spec.TimeZone, zone)
				return nil
			}
		}
		c.parts.Events.Eventf(cj, v1.EventTypeWarning, reason, "unparseable schedule: %q : %s", cj.Spec.Schedule, err)
		return nil
	}
	due := Next(cj, schedule, now)
	if due.Missed > manyMissed {
		c.parts.Events.Eventf(cj, v1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	defer func() {
		if !due.Next.IsZero() {
			c.AddAfter(key, due.Next.Sub(now)+100*time.Millisecond)
		}
	}()
	if due.At.IsZero() {
		return nil
	}
	if d := cj.Spec.StartingDeadlineSeconds; d != nil && due.At.Add(time.Duration(*d)*time.Second).Before(now) {
		c.parts.Events.Eventf(cj, v1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", due.At.UTC().Format(time.RFC1123Z))
		return nil
	}
	name := JobName(cj, due.At)
	if slices.ContainsFunc(cj.Status.Active, func(r v1.ObjectReference) bool { return r.Name == name }) ||
		cj.Status.LastScheduleTime != nil && cj.Status.LastScheduleTime.Time.Equal(due.At) {
		return nil
	}
	if len(cj.Status.Active) > 0 {
		switch cj.Spec.ConcurrencyPolicy {
		case batch.ForbidConcurrent:
			c.parts.Events.Event(cj, v1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			return nil
		case batch.ReplaceConcurrent:
			for _, ref := range slices.Clone(cj.Status.Active) {
				j, err := c.parts.Client.BatchV1().Jobs(cj.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					continue
				}
				if err == nil {
					err = c.remove(ctx, cj, j)
				}
				if err != nil {
					return err
				}
			}
		}
	}
	made, err := c.parts.Client.BatchV1().Jobs(cj.Namespace).Create(ctx, NewJob(cj, due.At), metav1.CreateOptions{})
	switch {
	case apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause):
		return nil
	case apierrors.IsAlreadyExists(err):
		// Made by a sync whose status update was lost.
		if made, err = c.parts.Client.BatchV1().Jobs(cj.Namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if !metav1.IsControlledBy(made, cj) {
			return fmt.Errorf("job %s/%s exists and is not owned by CronJob %s", cj.Namespace, name, cj.Name)
		}
		if _, ended := finished(made); ended {
			cj.Status.LastScheduleTime = &metav1.Time{Time: due.At}
			_, err = c.write(ctx, cj)
			return err
		}
	case err != nil:
		c.parts.Events.Eventf(cj, v1.EventTypeWarning, "FailedCreate", "Error creating job: %v", err)
		return err
	default:
		c.parts.Events.Eventf(cj, v1.EventTypeNormal, "SuccessfulCreate", "Created job %v", made.Name)
	}
	cj.Status.Active = append(cj.Status.Active, v1.ObjectReference{
		Kind: "Job", APIVersion: batch.SchemeGroupVersion.String(), Namespace: made.Namespace, Name: made.Name,
		UID: made.UID, ResourceVersion: made.ResourceVersion,
	})
	cj.Status.LastScheduleTime = &metav1.Time{Time: due.At}
	_, err = c.write(ctx, cj)
	return err
}

// JobName is unique to the run: making it twice is refused by the API.
func JobName(cj *batch.CronJob, at time.Time) string {
	return cj.Name + "-" + strconv.FormatInt(at.Unix()/60, 10)
}

// NewJob is the Job of a run.
func NewJob(cj *batch.CronJob, at time.Time) *batch.Job {
	t := &cj.Spec.JobTemplate
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	if cj.Spec.TimeZone != nil {
		if zone, err := time.LoadLocation(*cj.Spec.TimeZone); err == nil {
			at = at.In(zone)
		}
	} else {
		at = at.UTC()
	}
	annotations[batch.CronJobScheduledTimestampAnnotation] = at.Format(time.RFC3339)
	return &batch.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: JobName(cj, at), Namespace: cj.Namespace, Labels: maps.Clone(t.Labels), Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cj, kind)},
		},
		Spec: *t.Spec.DeepCopy(),
	}
}
