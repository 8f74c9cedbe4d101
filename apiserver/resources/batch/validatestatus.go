package batch

import (
	"fmt"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources/podspec"
)

// jobOutcome is what a status says of a job's end; it must hold together.
func jobOutcome(s *batchv1.JobStatus, spec *batchv1.JobSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	is := func(t batchv1.JobConditionType) bool {
		for _, c := range s.Conditions {
			if c.Type == t {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	}
	complete, failed := is(batchv1.JobComplete), is(batchv1.JobFailed)
	conditions := at.Child("conditions")
	if complete && failed {
		errs = append(errs, field.Invalid(conditions, field.OmitValueType{}, "cannot set Complete=True and Failed=true conditions"))
	}
	if complete && is(batchv1.JobFailureTarget) {
		errs = append(errs, field.Invalid(conditions, field.OmitValueType{}, "cannot set Complete=True and FailureTarget=true conditions"))
	}
	if (complete || failed) && s.Active > 0 {
		errs = append(errs, field.Invalid(at.Child("active"), s.Active, "active>0 is invalid for finished job"))
	}
	switch {
	case complete && s.CompletionTime == nil:
		errs = append(errs, field.Required(at.Child("completionTime"), "completionTime is required for Complete jobs"))
	case !complete && s.CompletionTime != nil:
		errs = append(errs, field.Invalid(at.Child("completionTime"), s.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
	case s.CompletionTime != nil && s.StartTime != nil && s.CompletionTime.Before(s.StartTime):
		errs = append(errs, field.Invalid(at.Child("completionTime"), s.CompletionTime, "completionTime cannot be set before startTime"))
	}
	for name, n := range map[string]*int32{"ready": s.Ready, "terminating": s.Terminating} {
		if n != nil {
			errs = append(errs, podspec.NonNegativeInt(*n, at.Child(name))...)
		}
	}
	if s.Ready != nil && *s.Ready > s.Active {
		errs = append(errs, field.Invalid(at.Child("ready"), *s.Ready, "cannot set more ready pods than active"))
	}
	indexed := ptr.Deref(spec.CompletionMode, "") == batchv1.IndexedCompletion
	if s.CompletedIndexes != "" {
		if !indexed {
			errs = append(errs, field.Invalid(at.Child("completedIndexes"), s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
		} else {
			errs = append(errs, indexes(s.CompletedIndexes, ptr.Deref(spec.Completions, 0), at.Child("completedIndexes"))...)
		}
	}
	if s.FailedIndexes != nil {
		if spec.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Invalid(at.Child("failedIndexes"), *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
		} else {
			errs = append(errs, indexes(*s.FailedIndexes, ptr.Deref(spec.Completions, 0), at.Child("failedIndexes"))...)
		}
	}
	if u := s.UncountedTerminatedPods; u != nil {
		at := at.Child("uncountedTerminatedPods")
		seen := map[types.UID]bool{}
		errs = append(errs, uncounted(u.Succeeded, seen, at.Child("succeeded"))...)
		errs = append(errs, uncounted(u.Failed, seen, at.Child("failed"))...)
	}
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

// indexes are numbers and ranges in order: "1,3-5,7".
func indexes(text string, completions int32, at *field.Path) field.ErrorList {
	refuse := func(why string) field.ErrorList {
		return field.ErrorList{field.Invalid(at, text, "error parsing the indexes: "+why)}
	}
	if text == "" {
		return nil
	}
	last := int64(-1)
	for part := range strings.SplitSeq(text, ",") {
		ends := strings.Split(part, "-")
		if len(ends) > 2 {
			return refuse(fmt.Sprintf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", part))
		}
		for _, end := range ends {
			n, err := strconv.ParseInt(end, 10, 32)
			if err != nil {
				return refuse(fmt.Sprintf("cannot convert string to integer for index: %q", end))
			}
			if n >= int64(completions) {
				return refuse(fmt.Sprintf("too large index: %q", end))
			}
			if n <= last {
				return refuse(fmt.Sprintf("non-increasing order, previous: %d, current: %d", last, n))
			}
			last = n
		}
	}
	return nil
}
