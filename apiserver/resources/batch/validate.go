package batch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/robfig/cron/v3"

	"skiff/apiserver/resources/podspec"
)

var spec = field.NewPath("spec")

func jobWarnings(s *batchv1.JobSpec, old *batchv1.Job, at *field.Path) []string {
	var out []string
	if ptr.Deref(s.CompletionMode, "") == batchv1.IndexedCompletion && s.Completions != nil && s.Parallelism != nil &&
		*s.Completions > 100_000 && *s.Parallelism > 10_000 {
		out = append(out, "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, a Kubernetes control plane might not be able to track completionIndexes")
	}
	if old != nil && equality.Semantic.DeepEqual(s, &old.Spec) {
		return out
	}
	return append(out, podspec.TemplateWarnings(&s.Template, at.Child("template"))...)
}

func validateJob(_ context.Context, j *batchv1.Job) field.ErrorList {
	errs := validateJobSpec(&j.Spec, spec)
	if !ptr.Deref(j.Spec.ManualSelector, false) {
		errs = append(errs, validateGenerated(j)...)
	}
	if ptr.Deref(j.Spec.CompletionMode, "") == batchv1.IndexedCompletion && j.Spec.Completions != nil && *j.Spec.Completions > 0 {
		name := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		for _, msg := range validation.IsDNS1123Label(name) {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), name, "will not able to create pod with invalid DNS label: "+msg))
		}
	}
	return errs
}

// validateGenerated: the labels that select a job's pods are the server's.
func validateGenerated(j *batchv1.Job) field.ErrorList {
	var errs field.ErrorList
	at := spec.Child("template", "metadata", "labels")
	got := j.Spec.Template.Labels[batchv1.ControllerUidLabel]
	if got != string(j.UID) {
		errs = append(errs, field.Invalid(at, j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", j.UID)))
	}
	if name := j.Spec.Template.Labels[batchv1.JobNameLabel]; name != j.Name {
		errs = append(errs, field.Invalid(at, j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", j.Name)))
	}
	if s, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !s.Matches(labels.Set(j.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(spec.Child("selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func validateJobSpec(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Selector == nil && s.ManualSelector != nil && *s.ManualSelector {
		errs = append(errs, field.Required(at.Child("selector"), ""))
	} else {
		errs = append(errs, unversioned.ValidateLabelSelector(s.Selector, unversioned.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	}
	for _, f := range []struct {
		name string
		n    *int32
	}{{"parallelism", s.Parallelism}, {"completions", s.Completions}, {"backoffLimit", s.BackoffLimit},
		{"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished}, {"backoffLimitPerIndex", s.BackoffLimitPerIndex}, {"maxFailedIndexes", s.MaxFailedIndexes}} {
		if f.n != nil {
			errs = append(errs, podspec.NonNegativeInt(*f.n, at.Child(f.name))...)
		}
	}
	if s.ActiveDeadlineSeconds != nil {
		errs = append(errs, podspec.NonNegativeInt(*s.ActiveDeadlineSeconds, at.Child("activeDeadlineSeconds"))...)
	}
	indexed := ptr.Deref(s.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
	if m := s.CompletionMode; m != nil {
		if *m != batchv1.NonIndexedCompletion && *m != batchv1.IndexedCompletion {
			errs = append(errs, field.NotSupported(at.Child("completionMode"), *m, []batchv1.CompletionMode{batchv1.IndexedCompletion, batchv1.NonIndexedCompletion}))
		}
		if indexed && s.Completions == nil {
			errs = append(errs, field.Required(at.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
		}
	}
	if !indexed {
		if s.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(at.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if s.SuccessPolicy != nil {
			errs = append(errs, field.Invalid(at.Child("successPolicy"), *s.SuccessPolicy, "requires indexed completion mode"))
		}
	}
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(at.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	errs = append(errs, failurePolicy(s, at.Child("podFailurePolicy"))...)
	errs = append(errs, successPolicy(s, at.Child("successPolicy"))...)
	if p := s.PodReplacementPolicy; p != nil {
		known := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
		if s.PodFailurePolicy != nil {
			known = known[:1]
		}
		if !slices.Contains(known, *p) {
			errs = append(errs, field.NotSupported(at.Child("podReplacementPolicy"), *p, known))
		}
	}
	if s.ManagedBy != nil {
		errs = append(errs, unversioned.ValidateLabelName(*s.ManagedBy, at.Child("managedBy"))...)
	}
	errs = append(errs, podspec.ValidateTemplate(&s.Template, at.Child("template"))...)
	switch p := s.Template.Spec.RestartPolicy; p {
	case corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
		if s.PodFailurePolicy != nil && p != corev1.RestartPolicyNever {
			errs = append(errs, field.Invalid(at.Child("template", "spec", "restartPolicy"), p, "only \"Never\" is supported when podFailurePolicy is specified"))
		}
	case "", corev1.RestartPolicyAlways:
		errs = append(errs, field.Required(at.Child("template", "spec", "restartPolicy"), fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	default:
		errs = append(errs, field.NotSupported(at.Child("template", "spec", "restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
	return errs
}

func validateJobUpdate(_ context.Context, j, old *batchv1.Job) field.ErrorList {
	errs := validateJobSpec(&j.Spec, spec)
	same := func(a, b any, name string) {
		errs = append(errs, apivalidation.ValidateImmutableField(a, b, spec.Child(name))...)
	}
	suspended := ptr.Deref(old.Spec.Suspend, false)
	// An elastic indexed job changes its completions with its parallelism.
	elastic := ptr.Deref(j.Spec.CompletionMode, "") == batchv1.IndexedCompletion && equality.Semantic.DeepEqual(j.Spec.Completions, j.Spec.Parallelism)
	if !elastic {
		same(j.Spec.Completions, old.Spec.Completions, "completions")
	}
	same(j.Spec.Selector, old.Spec.Selector, "selector")
	template, before := j.Spec.Template.DeepCopy(), &old.Spec.Template
	if suspended && old.Status.StartTime == nil {
		// A suspended job's placement may still be decided (KEP-2926).
		template.Labels, template.Annotations = before.Labels, before.Annotations
		template.Spec.NodeSelector, template.Spec.Tolerations = before.Spec.NodeSelector, before.Spec.Tolerations
		template.Spec.SchedulingGates = before.Spec.SchedulingGates
		template.Spec.Affinity = before.Spec.Affinity
	}
	same(*template, *before, "template")
	same(j.Spec.CompletionMode, old.Spec.CompletionMode, "completionMode")
	same(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, "podFailurePolicy")
	same(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, "backoffLimitPerIndex")
	same(j.Spec.ManagedBy, old.Spec.ManagedBy, "managedBy")
	same(j.Spec.SuccessPolicy, old.Spec.SuccessPolicy, "successPolicy")
	return errs
}

func validateJobStatusUpdate(_ context.Context, j, old *batchv1.Job) field.ErrorList {
	at := field.NewPath("status")
	if !equality.Semantic.DeepEqual(j.Status, old.Status) {
		if errs := jobOutcome(&j.Status, &j.Spec, at); len(errs) > 0 {
			return errs
		}
	}
	errs := podspec.NonNegativeInt(j.Status.Active, at.Child("active"))
	errs = append(errs, podspec.NonNegativeInt(j.Status.Succeeded, at.Child("succeeded"))...)
	return append(errs, podspec.NonNegativeInt(j.Status.Failed, at.Child("failed"))...)
}

func validateCronJob(_ context.Context, c *batchv1.CronJob) field.ErrorList {
	errs := validateCronJobSpec(c)
	if len(c.Name) > 52 {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, "must be no more than 52 characters"))
	}
	return errs
}

func validateCronJobSpec(c *batchv1.CronJob) field.ErrorList {
	var errs field.ErrorList
	s := &c.Spec
	switch {
	case s.Schedule == "":
		errs = append(errs, field.Required(spec.Child("schedule"), ""))
	default:
		if _, err := cron.ParseStandard(s.Schedule); err != nil {
			errs = append(errs, field.Invalid(spec.Child("schedule"), s.Schedule, err.Error()))
		}
		if strings.Contains(s.Schedule, "TZ") {
			errs = append(errs, field.Invalid(spec.Child("schedule"), s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
		}
	}
	if tz := s.TimeZone; tz != nil {
		switch {
		case *tz == "":
			errs = append(errs, field.Invalid(spec.Child("timeZone"), *tz, "timeZone must be nil or non-empty string"))
		case strings.EqualFold(*tz, "Local"):
			errs = append(errs, field.Invalid(spec.Child("timeZone"), *tz, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
		default:
			if _, err := time.LoadLocation(*tz); err != nil {
				errs = append(errs, field.Invalid(spec.Child("timeZone"), *tz, err.Error()))
			}
		}
	}
	if d := s.StartingDeadlineSeconds; d != nil {
		errs = append(errs, podspec.NonNegativeInt(*d, spec.Child("startingDeadlineSeconds"))...)
	}
	switch s.ConcurrencyPolicy {
	case batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent:
	case "":
		errs = append(errs, field.Required(spec.Child("concurrencyPolicy"), ""))
	default:
		errs = append(errs, field.NotSupported(spec.Child("concurrencyPolicy"), s.ConcurrencyPolicy, []batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}))
	}
	if n := s.SuccessfulJobsHistoryLimit; n != nil {
		errs = append(errs, podspec.NonNegativeInt(*n, spec.Child("successfulJobsHistoryLimit"))...)
	}
	if n := s.FailedJobsHistoryLimit; n != nil {
		errs = append(errs, podspec.NonNegativeInt(*n, spec.Child("failedJobsHistoryLimit"))...)
	}
	at := spec.Child("jobTemplate", "spec")
	errs = append(errs, validateJobSpec(&s.JobTemplate.Spec, at)...)
	if s.JobTemplate.Spec.ManualSelector != nil && *s.JobTemplate.Spec.ManualSelector {
		errs = append(errs, field.NotSupported(at.Child("manualSelector"), *s.JobTemplate.Spec.ManualSelector, []string{"nil", "false"}))
	}
	return errs
}

func validateCronJobUpdate(_ context.Context, c, _ *batchv1.CronJob) field.ErrorList {
	return validateCronJobSpec(c)
}
