package batch

import (
	"context"
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type jobStrategy = resources.TypedStrategy[batchv1.Job, *batchv1.Job]

func jobs() resources.Resource {
	r := namespaced("Job", "jobs")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[batchv1.JobList], jobDefaults)}
	r.Columns = append(table.Columns(table.Name(), table.Text("Status", "What the job is doing."),
		table.Text("Completions", "Number of pods that succeeded, of those wanted."),
		table.Text("Duration", "How long the job ran, or has been running."), table.Age()),
		append(table.ContainersColumns(), table.Wide(table.Text("Selector", "Label selector for pods.")))...)
	main, status := resources.SpecStatus(jobStrategy{
		Generation: true, AllowUnconditionalUpdate: true,
		DefaultPropagation: ptr.To(metav1.DeletePropagationOrphan),
		PrepareForCreate:   func(_ context.Context, j *batchv1.Job) { generateSelector(j) },
		Validate:           validateJob,
		ValidateUpdate:     validateJobUpdate,
		Warnings: func(_ context.Context, j, old *batchv1.Job) []string {
			var warnings []string
			if old == nil {
				warnings = podspec.NameWarnings(j.Name)
			}
			return append(warnings, jobWarnings(&j.Spec, old, field.NewPath("spec"))...)
		},
	}, func(j *batchv1.Job) *batchv1.JobSpec { return &j.Spec },
		func(j *batchv1.Job) *batchv1.JobStatus { return &j.Status })
	status.ValidateUpdate = validateJobStatusUpdate
	return resources.Declare(resources.Spec[batchv1.Job, *batchv1.Job]{
		Resource: r, Strategy: main, Views: map[string]jobStrategy{"status": status},
		SelectableFields: map[string]func(*batchv1.Job) string{
			"status.successful": func(j *batchv1.Job) string { return strconv.Itoa(int(j.Status.Succeeded)) },
		},
		Row: jobRow,
	})
}

func jobDefaults(j *batchv1.Job) {
	jobSpecDefaults(&j.Spec)
	if len(j.Labels) == 0 && len(j.Spec.Template.Labels) > 0 {
		// One map: what is added for the pods is the job's too.
		j.Labels = j.Spec.Template.Labels
	}
}

// jobTemplateDefaults are those that a job's specification gets within a cron
// job too; all else is left to when the job is made.
func jobTemplateDefaults(spec *batchv1.JobSpec) {
	podspec.SetTemplateDefaults(&spec.Template)
	if spec.PodFailurePolicy == nil {
		return
	}
	for i := range spec.PodFailurePolicy.Rules {
		rule := &spec.PodFailurePolicy.Rules[i]
		for j := range rule.OnPodConditions {
			if rule.OnPodConditions[j].Status == "" {
				rule.OnPodConditions[j].Status = corev1.ConditionTrue
			}
		}
	}
}

func jobSpecDefaults(spec *batchv1.JobSpec) {
	// The feature of the field is alpha, and off.
	spec.Scheduling = nil
	jobTemplateDefaults(spec)
	if spec.Completions == nil && spec.Parallelism == nil {
		spec.Completions = ptr.To[int32](1)
		spec.Parallelism = ptr.To[int32](1)
	}
	if spec.Parallelism == nil {
		spec.Parallelism = ptr.To[int32](1)
	}
	if spec.BackoffLimit == nil {
		spec.BackoffLimit = ptr.To[int32](6)
		if spec.BackoffLimitPerIndex != nil {
			spec.BackoffLimit = ptr.To[int32](1<<31 - 1)
		}
	}
	if spec.CompletionMode == nil {
		spec.CompletionMode = ptr.To(batchv1.NonIndexedCompletion)
	}
	if spec.Suspend == nil {
		spec.Suspend = ptr.To(false)
	}
	if spec.PodReplacementPolicy == nil {
		spec.PodReplacementPolicy = ptr.To(batchv1.TerminatingOrFailed)
		if spec.PodFailurePolicy != nil {
			spec.PodReplacementPolicy = ptr.To(batchv1.Failed)
		}
	}
	if spec.ManualSelector == nil {
		spec.ManualSelector = ptr.To(false)
	}
}

// generateSelector labels the pods with the job's name and uid, under the
// names of old and of today, and selects them by uid. A job with a selector of
// its own only gets the labels that do not select.
func generateSelector(j *batchv1.Job) {
	if ptr.Deref(j.Spec.ManualSelector, false) {
		return
	}
	t := &j.Spec.Template
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	uid := string(j.UID)
	for key, value := range map[string]string{
		"job-name": j.Name, batchv1.JobNameLabel: j.Name,
		"controller-uid": uid, batchv1.ControllerUidLabel: uid,
	} {
		// What the client set is left for validation to refuse.
		if _, ok := t.Labels[key]; !ok {
			t.Labels[key] = value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, ok := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = uid
	}
}

func jobRow(j *batchv1.Job) []any {
	completions := ""
	switch {
	case j.Spec.Completions != nil:
		completions = fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case ptr.Deref(j.Spec.Parallelism, 0) > 1:
		completions = fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
	default:
		completions = fmt.Sprintf("%d/1", j.Status.Succeeded)
	}
	took := ""
	switch start, end := j.Status.StartTime, j.Status.CompletionTime; {
	case start == nil:
	case end == nil:
		took = duration.HumanDuration(time.Since(start.Time))
	default:
		took = duration.HumanDuration(end.Sub(start.Time))
	}
	names, images := table.Containers(j.Spec.Template.Spec.Containers)
	return []any{j.Name, jobState(j), completions, took, table.Since(j.CreationTimestamp), names, images,
		metav1.FormatLabelSelector(j.Spec.Selector)}
}

func jobState(j *batchv1.Job) string {
	is := func(kind batchv1.JobConditionType) bool {
		for _, c := range j.Status.Conditions {
			if c.Type == kind {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	}
	switch {
	case is(batchv1.JobComplete):
		return "Complete"
	case is(batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case is(batchv1.JobSuspended):
		return "Suspended"
	case is(batchv1.JobFailureTarget):
		return "FailureTarget"
	case is(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}
