package conformance

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// cronJob runs a script on a schedule.
func cronJob(name, schedule string, policy batchv1.ConcurrencyPolicy, script string) *batchv1.CronJob {
	j := job(name, script, 1)
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	return &batchv1.CronJob{ObjectMeta: named(name), Spec: batchv1.CronJobSpec{
		Schedule: schedule, ConcurrencyPolicy: policy,
		JobTemplate: batchv1.JobTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: j.Labels}, Spec: j.Spec},
	}}
}

func (s *space) cron(c *batchv1.CronJob) {
	s.t.Helper()
	_, err := s.client.BatchV1().CronJobs(s.name).Create(s.ctx, c, metav1.CreateOptions{})
	s.must(err)
}

func (s *space) jobsOf(app string) []batchv1.Job {
	s.t.Helper()
	list, err := s.client.BatchV1().Jobs(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	s.must(err)
	return list.Items
}

// active waits until a CronJob has n active jobs and returns their names.
func (s *space) active(name string, n int) []string {
	s.t.Helper()
	var names []string
	s.eventually(100*time.Second, fmt.Sprintf("%d active jobs of %s", n, name), func() error {
		c, err := s.client.BatchV1().CronJobs(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if names = nil; len(c.Status.Active) < n {
			return fmt.Errorf("%+v", c.Status)
		}
		for _, r := range c.Status.Active {
			names = append(names, r.Name)
		}
		return nil
	})
	return names
}

// Conformance: [sig-apps] CronJob should schedule multiple jobs concurrently
func TestAppsCronJobAllow(t *testing.T) {
	s := parallel(t)
	s.cron(cronJob("cron", "@every 2s", batchv1.AllowConcurrent, "sleep 300"))
	s.active("cron", 2)
	running := 0
	for _, j := range s.jobsOf("cron") {
		if j.Status.CompletionTime == nil {
			running++
		}
		if o := owner(&j); o.Kind != "CronJob" || o.Name != "cron" || !strings.HasPrefix(j.Name, "cron-") {
			t.Errorf("job %s has owner %+v", j.Name, o)
		}
		if j.Annotations[batchv1.CronJobScheduledTimestampAnnotation] == "" {
			t.Errorf("job %s does not say when it was due: %v", j.Name, j.Annotations)
		}
	}
	if running < 2 {
		t.Errorf("%d jobs run, want two at least", running)
	}
}

// A run is named after its minute, so shorter schedules have one each minute too.

// Conformance: [sig-apps] CronJob should not schedule new jobs when ForbidConcurrent [Slow]
func TestAppsCronJobForbid(t *testing.T) {
	s := parallel(t)
	s.cron(cronJob("cron", "@every 2s", batchv1.ForbidConcurrent, "sleep 300"))
	first := s.active("cron", 1)
	s.eventually(100*time.Second, "an event of a skipped run", func() error {
		events, err := s.client.CoreV1().Events(s.name).List(s.ctx, metav1.ListOptions{FieldSelector: "reason=JobAlreadyActive"})
		if err == nil && len(events.Items) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
	if jobs := s.jobsOf("cron"); len(jobs) != 1 || jobs[0].Name != first[0] {
		t.Errorf("there are %d jobs, want the first alone", len(jobs))
	}
}

// Conformance: [sig-apps] CronJob should replace jobs when ReplaceConcurrent
func TestAppsCronJobReplace(t *testing.T) {
	s := parallel(t)
	s.cron(cronJob("cron", "@every 5s", batchv1.ReplaceConcurrent, "sleep 300"))
	first := s.active("cron", 1)
	s.eventually(100*time.Second, "another job in its place", func() error {
		jobs := s.jobsOf("cron")
		for _, j := range jobs {
			if j.DeletionTimestamp == nil && j.Name != first[0] {
				if names := s.active("cron", 1); len(names) != 1 {
					t.Errorf("the active jobs are %v, want one", names)
				}
				return nil
			}
		}
		return fmt.Errorf("there are %d jobs", len(jobs))
	})
	s.gone("the replaced job", func() error {
		_, err := s.client.BatchV1().Jobs(s.name).Get(s.ctx, first[0], metav1.GetOptions{})
		return err
	})
}

// Conformance: [sig-apps] CronJob should not schedule jobs when suspended [Slow]
func TestAppsCronJobSuspended(t *testing.T) {
	s := parallel(t)
	c := cronJob("cron", "@every 1s", batchv1.AllowConcurrent, "true")
	c.Spec.Suspend = ptr.To(true)
	s.cron(c)
	s.cron(cronJob("witness", "@every 1s", batchv1.AllowConcurrent, "sleep 300"))
	s.active("witness", 1)
	if n := len(s.jobsOf("cron")); n != 0 {
		t.Errorf("a suspended CronJob has made %d jobs", n)
	}
}

// TestAppsCronJobMinute follows a schedule of minutes.
func TestAppsCronJobMinute(t *testing.T) {
	s := parallel(t)
	s.cron(cronJob("cron", "*/1 * * * ?", batchv1.AllowConcurrent, "true"))
	s.eventually(90*time.Second, "a complete job", func() error {
		for _, j := range s.jobsOf("cron") {
			if j.Status.Succeeded == 1 {
				return nil
			}
		}
		return errors.New("there is none")
	})
	s.eventually(30*time.Second, "the last times", func() error {
		c, err := s.client.BatchV1().CronJobs(s.name).Get(s.ctx, "cron", metav1.GetOptions{})
		if err == nil && (c.Status.LastSuccessfulTime == nil || c.Status.LastScheduleTime == nil || c.Status.LastScheduleTime.Second() != 0) {
			err = fmt.Errorf("%+v", c.Status)
		}
		return err
	})
}
