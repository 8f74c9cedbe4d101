package job

import (
	"slices"

	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"skiff/controllers/podcontrol"
)

// maxUncounted bounds the lists of pods that wait to be counted.
const maxUncounted = 500

// Tally is what the pods of a Job amount to.
type Tally struct {
	Active, Terminating []*v1.Pod
	Ready               int32
	// Succeeded and Failed count all ends, also those not in the status yet.
	Succeeded, Failed int32
	// Done and Lost are the indexes that succeeded and that gave up.
	Done, Lost Indexes
	// Free are the pods whose end is (or with this status will be) counted.
	Free []*v1.Pod
	// FailJob is the verdict of a failure policy that ends the Job.
	FailJob string
	// Failures are the failed pods, for the back-off.
	Failures []*v1.Pod
	// Status has the counters and the list of pods to count.
	Status batch.JobStatus
}

func tracked(p *v1.Pod, freed map[types.UID]bool) bool {
	return slices.Contains(p.Finalizers, batch.JobTrackingFinalizer) && !freed[p.UID]
}

// Count tallies the pods; freed are those whose finalizer is already off.
// end is the condition by which the Job ends now, or empty: then every pod is to
// be let go, and those that a failed Job cuts off have failed.
func Count(j *batch.Job, pods []*v1.Pod, freed map[types.UID]bool, end batch.JobConditionType) Tally {
	ending := end != ""
	t := Tally{Status: *j.Status.DeepCopy()}
	s := &t.Status
	held := map[types.UID]bool{}
	for _, p := range pods {
		if tracked(p, freed) {
			held[p.UID] = true
		}
	}
	u := s.UncountedTerminatedPods
	if u == nil {
		u = &batch.UncountedTerminatedPods{}
	}
	// Pods without the finalizer leave the list for the counters.
	u.Succeeded = slices.DeleteFunc(u.Succeeded, func(uid types.UID) bool {
		if held[uid] {
			return false
		}
		s.Succeeded++
		return true
	})
	u.Failed = slices.DeleteFunc(u.Failed, func(uid types.UID) bool {
		if held[uid] {
			return false
		}
		s.Failed++
		return true
	})
	if indexed(j) {
		t.Done = ParseIndexes(s.CompletedIndexes, completions(j))
	}
	t.Lost = FailedIndexes(j, pods)
	keep := heldBack(j, pods, t.Lost, ending)
	for _, p := range pods {
		switch {
		case podcontrol.Active(p):
			t.Active = append(t.Active, p)
			if podcontrol.Ready(p) {
				t.Ready++
			}
		case podcontrol.Terminating(p):
			t.Terminating = append(t.Terminating, p)
		}
		isFailed := failed(p, j) || ending && p.DeletionTimestamp != nil && p.Status.Phase != v1.PodSucceeded
		if isFailed {
			t.Failures = append(t.Failures, p)
			if v := Judge(j, p); v.Action == batch.PodFailurePolicyActionFailJob && t.FailJob == "" && held[p.UID] {
				t.FailJob = v.Message
			}
		}
		if !held[p.UID] {
			continue
		}
		i := indexOf(p)
		valid := !indexed(j) || i >= 0 && i < completions(j)
		full := len(u.Succeeded)+len(u.Failed) >= maxUncounted
		switch {
		case p.Status.Phase == v1.PodSucceeded:
			if indexed(j) {
				// The index itself remembers the success.
				if valid {
					t.Done = t.Done.With(i)
				}
			} else if !slices.Contains(u.Succeeded, p.UID) {
				if full {
					continue
				}
				u.Succeeded = append(u.Succeeded, p.UID)
			}
			t.Free = append(t.Free, p)
		case isFailed, end == batch.JobFailureTarget:
			if keep[p.UID] {
				continue
			}
			if ignored := Judge(j, p).Action == batch.PodFailurePolicyActionIgnore; !ignored && valid && !slices.Contains(u.Failed, p.UID) {
				if full {
					continue
				}
				u.Failed = append(u.Failed, p.UID)
			}
			t.Free = append(t.Free, p)
		case ending, j.DeletionTimestamp != nil && p.DeletionTimestamp != nil:
			t.Free = append(t.Free, p)
		}
	}
	if indexed(j) {
		s.CompletedIndexes = t.Done.String()
		s.Succeeded = int32(len(t.Done))
		t.Succeeded = s.Succeeded
	} else {
		t.Succeeded = s.Succeeded + int32(len(u.Succeeded))
	}
	if j.Spec.BackoffLimitPerIndex != nil {
		t.Lost = slices.DeleteFunc(t.Lost, t.Done.Has)
		s.FailedIndexes = ptr.To(t.Lost.String())
	}
	t.Failed = s.Failed + int32(len(u.Failed))
	s.UncountedTerminatedPods = u
	s.Active = int32(len(t.Active))
	s.Ready = ptr.To(t.Ready)
	s.Terminating = ptr.To(int32(len(t.Terminating)))
	return t
}

// heldBack are the last failed pods of indexes that will be tried again: the
// next pod takes the number of failures from them.
func heldBack(j *batch.Job, pods []*v1.Pod, lost Indexes, ending bool) map[types.UID]bool {
	out := map[types.UID]bool{}
	if j.Spec.BackoffLimitPerIndex == nil || ending || j.DeletionTimestamp != nil {
		return out
	}
	for i, p := range latestByIndex(j, pods) {
		if failed(p, j) && !lost.Has(i) {
			out[p.UID] = true
		}
	}
	return out
}

// latestByIndex is the pod of each index with the most failures before it.
func latestByIndex(j *batch.Job, pods []*v1.Pod) map[int]*v1.Pod {
	out := map[int]*v1.Pod{}
	for _, p := range pods {
		i := indexOf(p)
		if i < 0 || i >= completions(j) {
			continue
		}
		if last := out[i]; last == nil || attempts(p) > attempts(last) {
			out[i] = p
		}
	}
	return out
}

func attempts(p *v1.Pod) int {
	counted, ignored := failuresOf(p)
	return counted + ignored
}
