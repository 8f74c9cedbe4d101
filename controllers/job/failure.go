package job

import (
	"fmt"
	"slices"
	"strconv"

	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
)

const (
	indexFailures        = batch.JobIndexFailureCountAnnotation
	indexIgnoredFailures = "batch.kubernetes.io/job-index-ignored-failure-count"
)

// onlyFailed says whether a pod counts as failed only when it has ended, and
// not already while it is being deleted.
func onlyFailed(j *batch.Job) bool {
	return j.Spec.PodReplacementPolicy != nil && *j.Spec.PodReplacementPolicy == batch.Failed
}

// failed says whether the pod counts as a failure.
func failed(p *v1.Pod, j *batch.Job) bool {
	if p.Status.Phase == v1.PodFailed {
		return true
	}
	return !onlyFailed(j) && p.DeletionTimestamp != nil && p.Status.Phase != v1.PodSucceeded
}

// Verdict is what a Job's pod failure policy says about a failed pod.
type Verdict struct {
	Action  batch.PodFailurePolicyAction
	Message string
}

// Count is the verdict where no rule matches.
var count = Verdict{Action: batch.PodFailurePolicyActionCount}

// Judge applies the first rule that matches the pod.
func Judge(j *batch.Job, p *v1.Pod) Verdict {
	if j.Spec.PodFailurePolicy == nil || p.Status.Phase != v1.PodFailed {
		return count
	}
	for i, rule := range j.Spec.PodFailurePolicy.Rules {
		var message string
		if rule.OnExitCodes != nil {
			message = matchExit(p, rule.OnExitCodes, rule.Action, i)
		} else {
			message = matchCondition(p, rule.OnPodConditions, rule.Action, i)
		}
		if message == "" {
			continue
		}
		if rule.Action == batch.PodFailurePolicyActionFailIndex && j.Spec.BackoffLimitPerIndex == nil {
			return count
		}
		return Verdict{rule.Action, message}
	}
	return count
}

func matchExit(p *v1.Pod, r *batch.PodFailurePolicyOnExitCodesRequirement, action batch.PodFailurePolicyAction, i int) string {
	for _, s := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses) {
		if r.ContainerName != nil && *r.ContainerName != s.Name || s.State.Terminated == nil || s.State.Terminated.ExitCode == 0 {
			continue
		}
		code := s.State.Terminated.ExitCode
		if slices.Contains(r.Values, code) == (r.Operator == batch.PodFailurePolicyOnExitCodesOpIn) {
			return fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d matching %v rule at index %d", s.Name, p.Namespace, p.Name, code, action, i)
		}
	}
	return ""
}

func matchCondition(p *v1.Pod, patterns []batch.PodFailurePolicyOnPodConditionsPattern, action batch.PodFailurePolicyAction, i int) string {
	for _, c := range p.Status.Conditions {
		for _, pattern := range patterns {
			status := pattern.Status
			if status == "" {
				status = v1.ConditionTrue
			}
			if c.Type == pattern.Type && c.Status == status {
				return fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d", p.Namespace, p.Name, c.Type, action, i)
			}
		}
	}
	return ""
}

// failuresOf is how often the pod's index has failed before it, counted and
// ignored ones.
func failuresOf(p *v1.Pod) (counted, ignored int) {
	counted, _ = strconv.Atoi(p.Annotations[indexFailures])
	ignored, _ = strconv.Atoi(p.Annotations[indexIgnoredFailures])
	return counted, ignored
}

// FailedIndexes are the indexes whose retries are used up.
func FailedIndexes(j *batch.Job, pods []*v1.Pod) Indexes {
	if j.Spec.BackoffLimitPerIndex == nil {
		return nil
	}
	var out Indexes
	if j.Status.FailedIndexes != nil {
		out = ParseIndexes(*j.Status.FailedIndexes, completions(j))
	}
	for _, p := range pods {
		i := indexOf(p)
		if i < 0 || i >= completions(j) || !failed(p, j) {
			continue
		}
		counted, _ := failuresOf(p)
		switch Judge(j, p).Action {
		case batch.PodFailurePolicyActionFailIndex:
			out = out.With(i)
		case batch.PodFailurePolicyActionCount:
			if counted >= int(*j.Spec.BackoffLimitPerIndex) {
				out = out.With(i)
			}
		}
	}
	return out
}

// restartsExceeded serves restartPolicy OnFailure, where the kubelet restarts
// containers and no pod fails.
func restartsExceeded(j *batch.Job, pods []*v1.Pod) bool {
	if j.Spec.Template.Spec.RestartPolicy != v1.RestartPolicyOnFailure || j.Spec.BackoffLimit == nil {
		return false
	}
	var n int32
	for _, p := range pods {
		if p.Status.Phase == v1.PodRunning || p.Status.Phase == v1.PodPending {
			for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
				n += s.RestartCount
			}
		}
	}
	if *j.Spec.BackoffLimit == 0 {
		return n > 0
	}
	return n >= *j.Spec.BackoffLimit
}

// SuccessMet is the message of the success policy's first rule that is met.
func SuccessMet(j *batch.Job, done Indexes) (string, bool) {
	if j.Spec.SuccessPolicy == nil {
		return "", false
	}
	for i, rule := range j.Spec.SuccessPolicy.Rules {
		hits := len(done)
		want := 0
		if rule.SucceededIndexes != nil {
			named := ParseIndexes(*rule.SucceededIndexes, completions(j))
			hits, want = 0, len(named)
			for _, n := range named {
				if done.Has(n) {
					hits++
				}
			}
		}
		if rule.SucceededCount != nil {
			want = int(*rule.SucceededCount)
		}
		if hits >= want && want > 0 {
			return fmt.Sprintf("Matched rules at index %d", i), true
		}
	}
	return "", false
}
