package batch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// holds tells whether a condition is met.
func holds(s *batchv1.JobStatus, t batchv1.JobConditionType) bool {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// jobOutcome is what a status says of a job's end; it must hold together.
func jobOutcome(s *batchv1.JobStatus, spec *batchv1.JobSpec, at *field.Path) field.ErrorList {
	complete, failed := holds(s, batchv1.JobComplete), holds(s, batchv1.JobFailed)
	succeeds, fails := holds(s, batchv1.JobSuccessCriteriaMet), holds(s, batchv1.JobFailureTarget)
	var errs field.ErrorList
	never := func(is bool, what string) {
		if is {
			errs = append(errs, field.Invalid(at.Child("conditions"), field.OmitValueType{}, "cannot set "+what))
		}
	}
	never(complete && failed, "Complete=True and Failed=true conditions")
	never(complete && fails, "Complete=True and FailureTarget=true conditions")
	never(failed && !fails, "Failed=True condition without the FailureTarget=true condition")
	never(complete && !succeeds, "Complete=True condition without the SuccessCriteriaMet=true condition")
	never(succeeds && failed, "SuccessCriteriaMet=True and Failed=true conditions")
	never(succeeds && fails, "SuccessCriteriaMet=True and FailureTarget=true conditions")
	never(complete && !succeeds && spec.SuccessPolicy != nil, "Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")
	if finished := complete || failed; finished {
		if s.Active > 0 {
			errs = append(errs, field.Invalid(at.Child("active"), s.Active, "active>0 is invalid for finished job"))
		}
		if n := ptr.Deref(s.Terminating, 0); n > 0 {
			errs = append(errs, field.Invalid(at.Child("terminating"), n, "terminating>0 is invalid for finished job"))
		}
		if s.StartTime == nil {
			errs = append(errs, field.Required(at.Child("startTime"), "startTime is required for finished job"))
		}
		if u := s.UncountedTerminatedPods; u != nil && len(u.Succeeded)+len(u.Failed) > 0 {
			errs = append(errs, field.Invalid(at.Child("uncountedTerminatedPods"), u, "must be empty for finished job"))
		}
	}
	switch {
	case complete && s.CompletionTime == nil:
		errs = append(errs, field.Required(at.Child("completionTime"), "completionTime is required for Complete jobs"))
	case !complete && s.CompletionTime != nil:
		errs = append(errs, field.Invalid(at.Child("completionTime"), s.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
	case s.CompletionTime != nil && s.StartTime != nil && s.CompletionTime.Before(s.StartTime):
		errs = append(errs, field.Invalid(at.Child("completionTime"), s.CompletionTime, "must be equal to or after `startTime`"))
	}
	if s.Ready != nil && *s.Ready > s.Active {
		errs = append(errs, field.Invalid(at.Child("ready"), *s.Ready, "cannot set more ready pods than active"))
	}
	errs = append(errs, jobIndexes(s, spec, at)...)
	if u := s.UncountedTerminatedPods; u != nil {
		at := at.Child("uncountedTerminatedPods")
		seen := map[types.UID]bool{}
		errs = append(errs, uncounted(u.Succeeded, seen, at.Child("succeeded"))...)
		errs = append(errs, uncounted(u.Failed, seen, at.Child("failed"))...)
	}
	return errs
}

// jobIndexes are the indexes that succeeded and failed: none does both.
func jobIndexes(s *batchv1.JobStatus, spec *batchv1.JobSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	var completed, failed []int32
	most := ptr.Deref(spec.Completions, 0)
	if s.CompletedIndexes != "" {
		if ptr.Deref(spec.CompletionMode, "") != batchv1.IndexedCompletion {
			errs = append(errs, field.Invalid(at.Child("completedIndexes"), s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
		}
		var bad field.ErrorList
		completed, bad = indexes(s.CompletedIndexes, most, at, "completedIndexes")
		errs = append(errs, bad...)
	}
	if s.FailedIndexes != nil {
		if spec.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Invalid(at.Child("failedIndexes"), *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
		} else {
			var bad field.ErrorList
			failed, bad = indexes(*s.FailedIndexes, most, at, "failedIndexes")
			errs = append(errs, bad...)
		}
	}
	for _, n := range failed {
		if _, both := slices.BinarySearch(completed, n); both {
			return append(errs, field.Invalid(at.Child("failedIndexes"), *s.FailedIndexes, fmt.Sprintf("failedIndexes and completedIndexes overlap at index: %d", n)))
		}
	}
	return errs
}

// jobProgress refuses to take back what a job's status has said.
func jobProgress(j, old *batchv1.Job, at *field.Path) field.ErrorList {
	s, was := &j.Status, &old.Status
	var errs field.ErrorList
	kept := func(t batchv1.JobConditionType, what string) {
		if holds(was, t) && !holds(s, t) {
			errs = append(errs, field.Invalid(at.Child("conditions"), field.OmitValueType{}, "cannot disable the "+what+"=True condition"))
		}
	}
	kept(batchv1.JobFailed, "terminal Failed")
	kept(batchv1.JobComplete, "terminal Complete")
	kept(batchv1.JobFailureTarget, "terminal FailureTarget")
	if s.Failed < was.Failed {
		errs = append(errs, field.Invalid(at.Child("failed"), s.Failed, "cannot decrease the failed counter"))
	}
	// Fewer completions of an elastic job leave fewer that succeeded.
	scaled := ptr.Deref(j.Spec.CompletionMode, "") == batchv1.IndexedCompletion && s.CompletedIndexes != was.CompletedIndexes && s.CompletedIndexes != ""
	if s.Succeeded < was.Succeeded && !scaled {
		errs = append(errs, field.Invalid(at.Child("succeeded"), s.Succeeded, "cannot decrease the succeeded counter"))
	}
	if !ptr.Deref(j.Spec.Suspend, false) && was.StartTime != nil && !s.StartTime.Equal(was.StartTime) {
		errs = append(errs, field.Invalid(at.Child("startTime"), s.StartTime, "field is immutable for unsuspended job once set"))
	}
	if s.CompletionTime != nil && was.CompletionTime != nil && !s.CompletionTime.Equal(was.CompletionTime) {
		errs = append(errs, field.Invalid(at.Child("completionTime"), s.CompletionTime, "field is immutable"))
	}
	kept(batchv1.JobSuccessCriteriaMet, "SuccessCriteriaMet")
	return errs
}

func uncounted(list []types.UID, seen map[types.UID]bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, uid := range list {
		if uid == "" {
			errs = append(errs, field.Invalid(at.Index(i), uid, "must not be empty"))
		} else if seen[uid] {
			errs = append(errs, field.Duplicate(at.Index(i), uid))
		}
		seen[uid] = true
	}
	return errs
}

// indexes are numbers and ranges in order: "1,3-5,7". name is the field's.
func indexes(text string, completions int32, in *field.Path, name string) ([]int32, field.ErrorList) {
	refuse := func(format string, args ...any) ([]int32, field.ErrorList) {
		return nil, field.ErrorList{field.Invalid(in.Child(name), text, "error parsing "+name+": "+fmt.Sprintf(format, args...))}
	}
	if text == "" {
		return nil, nil
	}
	var out []int32
	last := int32(-1)
	for part := range strings.SplitSeq(text, ",") {
		ends := strings.Split(part, "-")
		if len(ends) > 2 {
			return refuse("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", part)
		}
		first := last + 1
		for i, end := range ends {
			parsed, err := strconv.ParseInt(end, 10, 32)
			if err != nil {
				return refuse("cannot convert string to integer for index: %q", end)
			}
			n := int32(parsed)
			if n >= completions {
				return refuse("too large index: %q", end)
			}
			if n <= last {
				return refuse("non-increasing order, previous: %d, current: %d", last, n)
			}
			if last = n; i == 0 {
				first = n
			}
		}
		for n := first; n <= last; n++ {
			out = append(out, n)
		}
	}
	return out, nil
}
