package conformance

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func exitCode(action batchv1.PodFailurePolicyAction, code int32) *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action:      action,
		OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{code}},
	}}}
}

// TestAppsJobPolicies runs jobs whose policies decide how they end.
func TestAppsJobPolicies(t *testing.T) {
	const odd = "exit $((JOB_COMPLETION_INDEX % 2))"
	for _, tc := range []struct {
		name, script string
		n            int32
		change       func(*batchv1.Job)
		end          batchv1.JobConditionType
		reason       string
		// message is a part of the condition's.
		message string
		// early is the condition that precedes the end.
		early batchv1.JobConditionType
		// completed and failed are the indexes, failedPods the count.
		completed, failed string
		failedPods        int32
	}{
		// Conformance: [sig-apps] Job should allow to use the pod failure policy on exit code to fail the job early
		{
			name: "FailJob", script: "if [ $JOB_COMPLETION_INDEX = 0 ]; then exit 42; fi; sleep 600", n: 2,
			change: func(j *batchv1.Job) { j.Spec.PodFailurePolicy = exitCode(batchv1.PodFailurePolicyActionFailJob, 42) },
			end:    batchv1.JobFailed, reason: batchv1.JobReasonPodFailurePolicy, early: batchv1.JobFailureTarget,
			message: "failed with exit code 42 matching FailJob rule at index 0", failedPods: 2,
		},
		// Conformance: [sig-apps] Job should execute all indexes despite some failing when using backoffLimitPerIndex
		{
			name: "backoffLimitPerIndex", script: odd, n: 4,
			change: func(j *batchv1.Job) {
				j.Spec.BackoffLimit = nil
				j.Spec.BackoffLimitPerIndex = ptr.To[int32](1)
				j.Spec.Parallelism = ptr.To[int32](2)
			},
			end: batchv1.JobFailed, reason: batchv1.JobReasonFailedIndexes, early: batchv1.JobFailureTarget,
			message: "Job has failed indexes", completed: "0,2", failed: "1,3", failedPods: 4,
		},
		// Conformance: [sig-apps] Job should mark indexes as failed when the FailIndex action is matched in podFailurePolicy
		{
			name: "FailIndex", script: "if [ $JOB_COMPLETION_INDEX = 0 ]; then exit 42; fi", n: 2,
			change: func(j *batchv1.Job) {
				j.Spec.BackoffLimit = nil
				j.Spec.BackoffLimitPerIndex = ptr.To[int32](1)
				j.Spec.PodFailurePolicy = exitCode(batchv1.PodFailurePolicyActionFailIndex, 42)
			},
			end: batchv1.JobFailed, reason: batchv1.JobReasonFailedIndexes, early: batchv1.JobFailureTarget,
			completed: "1", failed: "0", failedPods: 1,
		},
		// Conformance: [sig-apps] Job should terminate job execution when the number of failed indexes exceeds maxFailedIndexes
		{
			name: "maxFailedIndexes", script: "exit 1", n: 4,
			change: func(j *batchv1.Job) {
				j.Spec.Parallelism = ptr.To[int32](1) // so that no other index has begun
				j.Spec.BackoffLimit = nil
				j.Spec.BackoffLimitPerIndex = ptr.To[int32](0)
				j.Spec.MaxFailedIndexes = ptr.To[int32](0)
			},
			end: batchv1.JobFailed, reason: batchv1.JobReasonMaxFailedIndexesExceeded, early: batchv1.JobFailureTarget,
			message: "Job has exceeded the specified maximal number of failed indexes", failed: "0", failedPods: 1,
		},
		// Conformance: [sig-apps] Job with successPolicy should succeeded when all indexes succeeded
		{
			name: "all succeed", script: "exit 0", n: 2,
			change: func(j *batchv1.Job) {
				j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: ptr.To[int32](1), SucceededIndexes: ptr.To("0-1")}}}
			},
			end: batchv1.JobComplete, reason: batchv1.JobReasonSuccessPolicy, early: batchv1.JobSuccessCriteriaMet,
			message: "Matched rules at index 0",
		},
		// Conformance: [sig-apps] Job with successPolicy succeededCount rule should succeeded even when some indexes remain pending
		{
			name: "succeededCount", script: "if [ $JOB_COMPLETION_INDEX != 0 ]; then sleep 600; fi", n: 2,
			change: func(j *batchv1.Job) {
				j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: ptr.To[int32](1)}}}
			},
			end: batchv1.JobComplete, reason: batchv1.JobReasonSuccessPolicy, early: batchv1.JobSuccessCriteriaMet,
			message: "Matched rules at index 0", completed: "0",
		},
		// Conformance: [sig-apps] Job with successPolicy succeededIndexes rule should succeeded even when some indexes remain pending
		{
			name: "succeededIndexes", script: "if [ $JOB_COMPLETION_INDEX != 1 ]; then sleep 600; fi", n: 3,
			change: func(j *batchv1.Job) {
				j.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr.To("1")}}}
			},
			end: batchv1.JobComplete, reason: batchv1.JobReasonSuccessPolicy, early: batchv1.JobSuccessCriteriaMet,
			message: "Matched rules at index 0", completed: "1",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := parallel(t)
			j := indexed("job", tc.script, tc.n)
			tc.change(j)
			s.startJob(j)
			got := s.jobEnds("job", tc.end)
			end := jobCondition(got, tc.end)
			if end.Reason != tc.reason || !strings.Contains(end.Message, tc.message) {
				t.Errorf("the condition is %+v, want reason %s and a message with %q", end, tc.reason, tc.message)
			}
			if early := jobCondition(got, tc.early); early == nil || early.Reason != tc.reason {
				t.Errorf("the condition %s is %+v, want reason %s", tc.early, early, tc.reason)
			}
			other := map[batchv1.JobConditionType]batchv1.JobConditionType{batchv1.JobFailed: batchv1.JobComplete, batchv1.JobComplete: batchv1.JobFailed}
			if c := jobCondition(got, other[tc.end]); c != nil {
				t.Errorf("the job is both: %+v", c)
			}
			if tc.completed != "" && got.Status.CompletedIndexes != tc.completed {
				t.Errorf("the completed indexes are %q, want %q", got.Status.CompletedIndexes, tc.completed)
			}
			if failed := ptr.Deref(got.Status.FailedIndexes, ""); failed != tc.failed {
				t.Errorf("the failed indexes are %q, want %q", failed, tc.failed)
			}
			if tc.end == batchv1.JobFailed && got.Status.Failed != tc.failedPods {
				t.Errorf("%d pods failed, want %d", got.Status.Failed, tc.failedPods)
			}
			if got.Status.Active != 0 || ptr.Deref(got.Status.Terminating, 0) != 0 {
				t.Errorf("an ended job has active pods: %+v", got.Status)
			}
			for _, p := range s.podsOf("job") {
				if p.Status.Phase == corev1.PodRunning {
					t.Errorf("pod %s runs after the job's end", p.Name)
				}
			}
		})
	}
}
