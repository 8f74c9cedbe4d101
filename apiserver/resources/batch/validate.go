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
		out = append(out, at.String()+": In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
	}
	if old != nil && equality.Semantic.DeepEqual(s, &old.Spec) {
		return out
	}
	return append(out, podspec.TemplateWarnings(&s.Template, at.Child("template"))...)
}

func validateJob(_ context.Context, j *batchv1.Job) field.ErrorList {
	var errs field.ErrorList
	if !ptr.Deref(j.Spec.ManualSelector, false) {
		errs = validateGenerated(j)
	}
	errs = append(errs, validateSelectingJob(&j.Spec)...)
	if ptr.Deref(j.Spec.CompletionMode, "") == batchv1.IndexedCompletion && j.Spec.Completions != nil && *j.Spec.Completions > 0 {
		if name := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1); len(validation.IsDNS1123Label(name)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+name))
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

// validateSelectingJob is the specification of a job, which selects its pods; those
// that cron jobs make get their selectors then.
func validateSelectingJob(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	if s.Selector == nil {
		errs = append(errs, field.Required(spec.Child("selector"), ""))
	} else {
		errs = append(errs, unversioned.ValidateLabelSelector(s.Selector, unversioned.LabelSelectorValidationOptions{}, spec.Child("selector"))...)
	}
	errs = append(errs, validateJobSpec(s, spec)...)
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(spec.Child("template", "metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

func validateJobSpec(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
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
			errs = append(errs, field.NotSupported(at.Child("completionMode"), *m, []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}))
		}
		if indexed && s.Completions == nil {
			errs = append(errs, field.Required(at.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
		}
	}
	if indexed {
		errs = append(errs, indexedBounds(s, at)...)
	}
	if !indexed {
		if s.BackoffLimitPerIndex != nil {
			errs = append(errs, field.Invalid(at.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if s.MaxFailedIndexes != nil {
			errs = append(errs, field.Invalid(at.Child("maxFailedIndexes"), *s.MaxFailedIndexes, "requires indexed completion mode"))
		}
		if s.SuccessPolicy != nil {
			errs = append(errs, field.Invalid(at.Child("successPolicy"), *s.SuccessPolicy, "requires indexed completion mode"))
		}
	}
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(at.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	errs = append(errs, failurePolicy(s, at.Child("podFailurePolicy"))...)
	if indexed {
		errs = append(errs, successPolicy(s, at.Child("successPolicy"))...)
	}
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
		errs = append(errs, validation.IsDomainPrefixedPath(at.Child("managedBy"), *s.ManagedBy)...)
		if len(*s.ManagedBy) > maxManagerLength {
			errs = append(errs, field.TooLong(at.Child("managedBy"), *s.ManagedBy, maxManagerLength))
		}
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

// The bounds of what can be told of the indexes of a job in its status.
const (
	maxIndexedPods         = 100_000
	manyCompletions        = 100_000
	maxPodsOfMany          = 10_000
	maxFailedIndexesOfMany = 10_000
	maxManagerLength       = 63
	withMany               = "must be less than or equal to %d when completions are above %d and used with backoff limit per index"
)

func indexedBounds(s *batchv1.JobSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := s.Parallelism; n != nil && *n > maxIndexedPods {
		errs = append(errs, field.Invalid(at.Child("parallelism"), *n, fmt.Sprintf("must be less than or equal to %d when completion mode is %s", maxIndexedPods, batchv1.IndexedCompletion)))
	}
	completions := ptr.Deref(s.Completions, 0)
	failed := at.Child("maxFailedIndexes")
	if n := s.MaxFailedIndexes; n != nil {
		if s.Completions != nil && *n > completions {
			errs = append(errs, field.Invalid(failed, *n, "must be less than or equal to completions"))
		}
		if *n > maxIndexedPods {
			errs = append(errs, field.Invalid(failed, *n, fmt.Sprintf("must be less than or equal to %d", maxIndexedPods)))
		}
	}
	if s.BackoffLimitPerIndex == nil || completions <= manyCompletions {
		return errs
	}
	switch n := s.MaxFailedIndexes; {
	case n == nil:
		errs = append(errs, field.Required(failed, fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
	case *n > maxFailedIndexesOfMany:
		errs = append(errs, field.Invalid(failed, *n, fmt.Sprintf(withMany, maxFailedIndexesOfMany, manyCompletions)))
	}
	if n := s.Parallelism; n != nil && *n > maxPodsOfMany {
		errs = append(errs, field.Invalid(at.Child("parallelism"), *n, fmt.Sprintf(withMany, maxPodsOfMany, manyCompletions)))
	}
	return errs
}

func validateJobUpdate(_ context.Context, j, old *batchv1.Job) field.ErrorList {
	errs := validateSelectingJob(&j.Spec)
	same := func(a, b any, name string) {
		errs = append(errs, apivalidation.ValidateImmutableField(a, b, spec.Child(name))...)
	}
	suspended := ptr.Deref(old.Spec.Suspend, false)
	// An elastic indexed job changes its completions with its parallelism.
	switch indexed := ptr.Deref(j.Spec.CompletionMode, "") == batchv1.IndexedCompletion; {
	case !indexed:
		same(j.Spec.Completions, old.Spec.Completions, "completions")
	case j.Spec.Completions != nil && !ptr.Equal(j.Spec.Completions, old.Spec.Completions) && !ptr.Equal(j.Spec.Completions, j.Spec.Parallelism):
		errs = append(errs, field.Invalid(spec.Child("completions"), *j.Spec.Completions, "can only be modified in tandem with spec.parallelism"))
	}
	same(j.Spec.Selector, old.Spec.Selector, "selector")
	template, before := j.Spec.Template.DeepCopy(), &old.Spec.Template
	if suspended && old.Status.StartTime == nil {
		// A suspended job's placement may still be decided (KEP-2926).
		template.Labels, template.Annotations = before.Labels, before.Annotations
		template.Spec.NodeSelector, template.Spec.Tolerations = before.Spec.NodeSelector, before.Spec.Tolerations
		template.Spec.SchedulingGates = before.Spec.SchedulingGates
		template.Spec.Affinity = before.Spec.Affinity
		keepResources(template.Spec.Containers, before.Spec.Containers)
		keepResources(template.Spec.InitContainers, before.Spec.InitContainers)
		errs = append(errs, apivalidation.ValidateImmutableField(template.Spec, before.Spec, spec.Child("template", "spec"))...)
	} else {
		same(*template, *before, "template")
	}
	same(j.Spec.CompletionMode, old.Spec.CompletionMode, "completionMode")
	same(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, "podFailurePolicy")
	same(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, "backoffLimitPerIndex")
	same(j.Spec.ManagedBy, old.Spec.ManagedBy, "managedBy")
	same(j.Spec.SuccessPolicy, old.Spec.SuccessPolicy, "successPolicy")
	return errs
}

// keepResources gives containers the resources that they had.
func keepResources(is, was []corev1.Container) {
	for i := range is {
		if i < len(was) && is[i].Name == was[i].Name {
			is[i].Resources = was[i].Resources
		}
	}
}

func validateJobStatusUpdate(_ context.Context, j, old *batchv1.Job) field.ErrorList {
	at := field.NewPath("status")
	s := &j.Status
	errs := podspec.NonNegativeInt(s.Active, at.Child("active"))
	errs = append(errs, podspec.NonNegativeInt(s.Succeeded, at.Child("succeeded"))...)
	errs = append(errs, podspec.NonNegativeInt(s.Failed, at.Child("failed"))...)
	errs = append(errs, podspec.NonNegativeInt(ptr.Deref(s.Ready, 0), at.Child("ready"))...)
	errs = append(errs, podspec.NonNegativeInt(ptr.Deref(s.Terminating, 0), at.Child("terminating"))...)
	if !equality.Semantic.DeepEqual(j.Status, old.Status) {
		errs = append(errs, jobOutcome(s, &j.Spec, at)...)
		errs = append(errs, jobProgress(j, old, at)...)
	}
	return errs
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
		default:
			if strings.EqualFold(*tz, "Local") {
				errs = append(errs, field.Invalid(spec.Child("timeZone"), *tz, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
			}
			if _, err := time.LoadLocation(*tz); err != nil {
				errs = append(errs, field.Invalid(spec.Child("timeZone"), *tz, "unknown time zone "+*tz))
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
	if s.JobTemplate.Spec.Selector != nil {
		errs = append(errs, field.Invalid(at.Child("selector"), s.JobTemplate.Spec.Selector, "`selector` will be auto-generated"))
	}
	if s.JobTemplate.Spec.ManualSelector != nil && *s.JobTemplate.Spec.ManualSelector {
		errs = append(errs, field.NotSupported(at.Child("manualSelector"), *s.JobTemplate.Spec.ManualSelector, []string{"nil", "false"}))
	}
	return errs
}

func validateCronJobUpdate(_ context.Context, c, _ *batchv1.CronJob) field.ErrorList {
	return validateCronJobSpec(c)
}
