package job

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newJob(change func(*batch.JobSpec)) *batch.Job {
	j := &batch.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", Namespace: "default", UID: "j"}}
	j.Spec.Parallelism, j.Spec.Completions, j.Spec.BackoffLimit = ptr.To[int32](1), ptr.To[int32](1), ptr.To[int32](6)
	j.Status.StartTime = &metav1.Time{Time: now}
	if change != nil {
		change(&j.Spec)
	}
	return j
}

func newPod(name string, phase v1.PodPhase, index int) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: "default", UID: types.UID(name), CreationTimestamp: metav1.Time{Time: now.Add(-time.Hour)},
		Finalizers: []string{batch.JobTrackingFinalizer}, Annotations: map[string]string{},
	}}
	p.Status.Phase = phase
	if index >= 0 {
		p.Annotations[batch.JobCompletionIndexAnnotation] = strconv.Itoa(index)
	}
	return p
}

func TestIndexes(t *testing.T) {
	for _, s := range []string{"", "0", "0,1", "0-2", "1,3-5,7", "0,1,5-9"} {
		if got := ParseIndexes(s, 100).String(); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	if got := ParseIndexes("0-9", 3).String(); got != "0-2" {
		t.Errorf("limit: %q", got)
	}
}

func TestCountWaitsForFinalizers(t *testing.T) {
	j := newJob(nil)
	done, lost := newPod("done", v1.PodSucceeded, -1), newPod("lost", v1.PodFailed, -1)
	pods := []*v1.Pod{done, lost, newPod("run", v1.PodRunning, -1)}
	first := Count(j, pods, nil, "")
	if first.Status.Succeeded != 0 || first.Succeeded != 1 || first.Failed != 1 || first.Status.Active != 1 || len(first.Free) != 2 {
		t.Fatalf("first count: %+v", first)
	}
	j.Status = first.Status
	second := Count(j, pods, map[types.UID]bool{"done": true, "lost": true}, "")
	if second.Status.Succeeded != 1 || second.Status.Failed != 1 || len(second.Status.UncountedTerminatedPods.Succeeded) != 0 {
		t.Fatalf("second count: %+v", second.Status)
	}
	j.Status = second.Status
	if third := Count(j, pods, map[types.UID]bool{"done": true, "lost": true}, ""); third.Succeeded != 1 || third.Failed != 1 {
		t.Fatalf("a pod was counted twice: %+v", third.Status)
	}
}

func TestCountAtTheEnd(t *testing.T) {
	pods := []*v1.Pod{newPod("lost", v1.PodFailed, -1), newPod("run", v1.PodRunning, -1)}
	for end, want := range map[batch.JobConditionType]int32{batch.JobFailureTarget: 2, batch.JobSuccessCriteriaMet: 1} {
		if got := Count(newJob(nil), pods, nil, end); got.Failed != want || len(got.Free) != 2 {
			t.Errorf("%s: %d failed and %d let go, want %d and 2", end, got.Failed, len(got.Free), want)
		}
	}
}

func TestEnding(t *testing.T) {
	for name, tc := range map[string]struct {
		job  *batch.Job
		pods []*v1.Pod
		want string
	}{
		"goes on":       {newJob(nil), []*v1.Pod{newPod("a", v1.PodRunning, -1)}, ""},
		"complete":      {newJob(nil), []*v1.Pod{newPod("a", v1.PodSucceeded, -1)}, "SuccessCriteriaMet/CompletionsReached"},
		"backoff limit": {newJob(func(s *batch.JobSpec) { s.BackoffLimit = ptr.To[int32](0) }), []*v1.Pod{newPod("a", v1.PodFailed, -1)}, "FailureTarget/BackoffLimitExceeded"},
		"deadline":      {newJob(func(s *batch.JobSpec) { s.ActiveDeadlineSeconds = ptr.To[int64](0) }), nil, "FailureTarget/DeadlineExceeded"},
		"failed index limit": {newJob(func(s *batch.JobSpec) {
			s.CompletionMode, s.Completions = ptr.To(batch.IndexedCompletion), ptr.To[int32](2)
			s.BackoffLimitPerIndex, s.MaxFailedIndexes = ptr.To[int32](0), ptr.To[int32](0)
		}), []*v1.Pod{newPod("a", v1.PodFailed, 1)}, "FailureTarget/MaxFailedIndexesExceeded"},
		"success policy": {newJob(func(s *batch.JobSpec) {
			s.CompletionMode, s.Completions = ptr.To(batch.IndexedCompletion), ptr.To[int32](3)
			s.SuccessPolicy = &batch.SuccessPolicy{Rules: []batch.SuccessPolicyRule{{SucceededIndexes: ptr.To("0")}}}
		}), []*v1.Pod{newPod("a", v1.PodSucceeded, 0)}, "SuccessCriteriaMet/SuccessPolicy"},
		"failure policy": {newJob(func(s *batch.JobSpec) {
			s.PodFailurePolicy = &batch.PodFailurePolicy{Rules: []batch.PodFailurePolicyRule{{
				Action:          batch.PodFailurePolicyActionFailJob,
				OnPodConditions: []batch.PodFailurePolicyOnPodConditionsPattern{{Type: v1.DisruptionTarget, Status: v1.ConditionTrue}},
			}}}
		}), []*v1.Pod{func() *v1.Pod {
			p := newPod("a", v1.PodFailed, -1)
			p.Status.Conditions = []v1.PodCondition{{Type: v1.DisruptionTarget, Status: v1.ConditionTrue}}
			return p
		}()}, "FailureTarget/PodFailurePolicy"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if c := Ending(tc.job, Count(tc.job, tc.pods, nil, ""), tc.pods, now); c != nil {
				got = string(c.Type) + "/" + c.Reason
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestMakePlan(t *testing.T) {
	indexedJob := newJob(func(s *batch.JobSpec) {
		s.CompletionMode, s.Completions, s.Parallelism = ptr.To(batch.IndexedCompletion), ptr.To[int32](4), ptr.To[int32](2)
	})
	recent := newPod("recent", v1.PodFailed, -1)
	recent.Status.ContainerStatuses = []v1.ContainerStatus{{State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{FinishedAt: metav1.Time{Time: now.Add(-4 * time.Second)}}}}}
	type result struct {
		Create  int
		Indexes []int
		Delete  int
		Wait    time.Duration
	}
	for name, tc := range map[string]struct {
		job  *batch.Job
		pods []*v1.Pod
		want result
	}{
		"starts":           {newJob(nil), nil, result{Create: 1}},
		"enough":           {newJob(nil), []*v1.Pod{newPod("a", v1.PodRunning, -1)}, result{}},
		"backs off":        {newJob(nil), []*v1.Pod{recent}, result{Wait: 6 * time.Second}},
		"suspended":        {newJob(func(s *batch.JobSpec) { s.Suspend = ptr.To(true) }), []*v1.Pod{newPod("a", v1.PodRunning, -1)}, result{Delete: 1}},
		"next indexes":     {indexedJob, []*v1.Pod{newPod("a", v1.PodSucceeded, 0), newPod("b", v1.PodRunning, 2)}, result{Create: 1, Indexes: []int{1}}},
		"one pod an index": {indexedJob, []*v1.Pod{newPod("a", v1.PodRunning, 0), newPod("b", v1.PodRunning, 0)}, result{Create: 1, Indexes: []int{1}, Delete: 1}},
		"too many":         {newJob(func(s *batch.JobSpec) { s.Completions = ptr.To[int32](5) }), []*v1.Pod{newPod("a", v1.PodRunning, -1), newPod("b", v1.PodRunning, -1)}, result{Delete: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			p := MakePlan(tc.job, Count(tc.job, tc.pods, nil, ""), tc.pods, false, now)
			if diff := cmp.Diff(tc.want, result{p.Create, p.Indexes, len(p.Delete), p.Wait}); diff != "" {
				t.Error(diff)
			}
		})
	}
}
