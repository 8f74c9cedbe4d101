package batch

import (
	"context"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type cronJobStrategy = resources.TypedStrategy[batchv1.CronJob, *batchv1.CronJob]

func cronJobs() resources.Resource {
	r := namespaced("CronJob", "cronjobs", "cj")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[batchv1.CronJobList], cronJobDefaults)}
	r.Columns = append(table.Columns(table.Name(), table.Text("Schedule", "When jobs are made."),
		table.Text("Timezone", "The time zone of the schedule."), table.Bool("Suspend", "Whether no jobs are made."),
		table.Int("Active", "Number of jobs that run."), table.Text("Last Schedule", "Time since a job was last made."), table.Age()),
		append(table.ContainersColumns(), table.Wide(table.Text("Selector", "Label selector for pods.")))...)
	main, status := resources.SpecStatus(cronJobStrategy{
		Generation:               true,
		AllowUnconditionalUpdate: true,
		Validate:                 validateCronJob,
		ValidateUpdate:           validateCronJobUpdate,
		Warnings: func(_ context.Context, c, old *batchv1.CronJob) []string {
			var warnings []string
			if old == nil {
				warnings = podspec.NameWarnings(c.Name)
			}
			if strings.Contains(c.Spec.Schedule, "TZ") {
				warnings = append(warnings, "CRON_TZ or TZ used in spec.spec.schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
			}
			var before *batchv1.Job
			if old != nil {
				before = &batchv1.Job{Spec: old.Spec.JobTemplate.Spec}
			}
			return append(warnings, jobWarnings(&c.Spec.JobTemplate.Spec, before, field.NewPath("spec", "jobTemplate", "spec"))...)
		},
		DefaultPropagation: ptr.To(metav1.DeletePropagationBackground),
	}, func(c *batchv1.CronJob) *batchv1.CronJobSpec { return &c.Spec },
		func(c *batchv1.CronJob) *batchv1.CronJobStatus { return &c.Status })
	return resources.Declare(resources.Spec[batchv1.CronJob, *batchv1.CronJob]{
		Resource: r, Strategy: main, Views: map[string]cronJobStrategy{"status": status},
		Row: func(c *batchv1.CronJob) []any {
			last := "<none>"
			if c.Status.LastScheduleTime != nil {
				last = table.Since(*c.Status.LastScheduleTime)
			}
			suspend := "False"
			if c.Spec.Suspend == nil {
				suspend = "<unset>"
			} else if *c.Spec.Suspend {
				suspend = "True"
			}
			names, images := table.Containers(c.Spec.JobTemplate.Spec.Template.Spec.Containers)
			return []any{c.Name, c.Spec.Schedule, ptr.Deref(c.Spec.TimeZone, "<none>"), suspend, int64(len(c.Status.Active)),
				last, table.Since(c.CreationTimestamp), names, images, metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector)}
		},
	})
}

func cronJobDefaults(c *batchv1.CronJob) {
	jobTemplateDefaults(&c.Spec.JobTemplate.Spec)
	if c.Spec.ConcurrencyPolicy == "" {
		c.Spec.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	if c.Spec.Suspend == nil {
		c.Spec.Suspend = ptr.To(false)
	}
	if c.Spec.SuccessfulJobsHistoryLimit == nil {
		c.Spec.SuccessfulJobsHistoryLimit = ptr.To[int32](3)
	}
	if c.Spec.FailedJobsHistoryLimit == nil {
		c.Spec.FailedJobsHistoryLimit = ptr.To[int32](1)
	}
}
