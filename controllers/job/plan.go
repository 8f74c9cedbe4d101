package job

import (
	"cmp"
	"slices"
	"time"

	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/controllers/podcontrol"
)

// burst bounds the pods made in one sync.
const burst = 500

// Back-off between failures.
const (
	firstBackoff = 10 * time.Second
	maxBackoff   = 10 * time.Minute
)

// Finished is the condition of an ended Job, nil before.
func Finished(j *batch.Job) *batch.JobCondition {
	for _, kind := range []batch.JobConditionType{batch.JobComplete, batch.JobFailed} {
		if c := condition(j.Status, kind); c != nil && c.Status == v1.ConditionTrue {
			return c
		}
	}
	return nil
}

func condition(s batch.JobStatus, kind batch.JobConditionType) *batch.JobCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

func isTrue(s batch.JobStatus, kind batch.JobConditionType) *batch.JobCondition {
	if c := condition(s, kind); c != nil && c.Status == v1.ConditionTrue {
		return c
	}
	return nil
}

// Ending is why the Job ends, as its interim condition; nil while it goes on.
func Ending(j *batch.Job, t Tally, pods []*v1.Pod, now time.Time) *batch.JobCondition {
	why := func(kind batch.JobConditionType, reason, message string) *batch.JobCondition {
		return &batch.JobCondition{
			Type: kind, Status: v1.ConditionTrue, Reason: reason, Message: message,
			LastProbeTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
		}
	}
	for _, kind := range []batch.JobConditionType{batch.JobFailureTarget, batch.JobSuccessCriteriaMet} {
		if c := isTrue(j.Status, kind); c != nil {
			return c
		}
	}
	if t.FailJob != "" {
		return why(batch.JobFailureTarget, batch.JobReasonPodFailurePolicy, t.FailJob)
	}
	limit := ptr.Deref(j.Spec.BackoffLimit, 6)
	if t.Failed > limit || restartsExceeded(j, pods) {
		return why(batch.JobFailureTarget, batch.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	}
	if left, ok := deadline(j, now); ok && left <= 0 {
		return why(batch.JobFailureTarget, batch.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	}
	if indexed(j) {
		if j.Spec.BackoffLimitPerIndex != nil {
			if most := j.Spec.MaxFailedIndexes; most != nil && len(t.Lost) > int(*most) {
				return why(batch.JobFailureTarget, batch.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
			}
			if len(t.Lost) > 0 && len(t.Lost)+len(t.Done) >= completions(j) {
				return why(batch.JobFailureTarget, batch.JobReasonFailedIndexes, "Job has failed indexes")
			}
		}
		if message, ok := SuccessMet(j, t.Done); ok {
			return why(batch.JobSuccessCriteriaMet, batch.JobReasonSuccessPolicy, message)
		}
	}
	complete := false
	if j.Spec.Completions == nil {
		complete = t.Succeeded > 0 && len(t.Active) == 0
	} else {
		complete = t.Succeeded >= *j.Spec.Completions && len(t.Active) == 0
	}
	if complete && !suspended(j) {
		return why(batch.JobSuccessCriteriaMet, batch.JobReasonCompletionsReached, "Reached expected number of succeeded pods")
	}
	return nil
}

func suspended(j *batch.Job) bool { return ptr.Deref(j.Spec.Suspend, false) }

func deadline(j *batch.Job, now time.Time) (left time.Duration, ok bool) {
	if j.Spec.ActiveDeadlineSeconds == nil || j.Status.StartTime == nil || suspended(j) {
		return 0, false
	}
	return j.Status.StartTime.Add(time.Duration(*j.Spec.ActiveDeadlineSeconds) * time.Second).Sub(now), true
}

// Plan is which pods to delete, and how many to make or of which indexes.
type Plan struct {
	Delete []*v1.Pod
	Create int
	// Indexes are those of the pods to make, for an indexed Job.
	Indexes []int
	// Wait is how long to hold back before any is made.
	Wait time.Duration
}

// MakePlan keeps the wished number of pods running.
func MakePlan(j *batch.Job, t Tally, pods []*v1.Pod, ending bool, now time.Time) Plan {
	if ending || suspended(j) || j.DeletionTimestamp != nil {
		if j.DeletionTimestamp != nil && !ending {
			return Plan{}
		}
		return Plan{Delete: t.Active}
	}
	parallel := int(ptr.Deref(j.Spec.Parallelism, 1))
	want := parallel
	if j.Spec.Completions == nil {
		if t.Succeeded > 0 {
			want = len(t.Active)
		}
	} else {
		want = min(parallel, completions(j)-int(t.Succeeded)-len(t.Lost))
	}
	want = max(0, want)
	active := t.Active
	var plan Plan
	if indexed(j) {
		var extra []*v1.Pod
		active, extra = once(j, t)
		plan.Delete = extra
	}
	if n := len(active) - want; n > 0 {
		victims := podcontrol.ByNode(active, active)
		slices.SortStableFunc(victims, func(a, b podcontrol.Ranked) int { return podcontrol.CompareForDeletion(a, b, now) })
		for _, v := range victims[:n] {
			plan.Delete = append(plan.Delete, v.Pod)
		}
		return plan
	}
	diff := want - len(active)
	if onlyFailed(j) {
		diff -= len(t.Terminating)
	}
	if diff <= 0 {
		return plan
	}
	if indexed(j) {
		var taken Indexes
		for _, p := range active {
			taken = taken.With(indexOf(p))
		}
		if onlyFailed(j) {
			for _, p := range t.Terminating {
				if i := indexOf(p); i >= 0 {
					taken = taken.With(i)
				}
			}
		}
		wait := map[int]time.Duration{}
		if j.Spec.BackoffLimitPerIndex != nil {
			for i, p := range latestByIndex(j, pods) {
				if failed(p, j) {
					wait[i] = remaining(attempts(p)+1, endOf(p), now)
				}
			}
			for i, d := range wait {
				if d > 0 {
					taken = taken.With(i)
					if plan.Wait == 0 || d < plan.Wait {
						plan.Wait = d
					}
				}
			}
		}
		plan.Indexes = Pending(completions(j), min(diff, burst), t.Done, t.Lost, taken)
		plan.Create = len(plan.Indexes)
		if j.Spec.BackoffLimitPerIndex != nil {
			return plan
		}
	} else {
		plan.Create = min(diff, burst)
	}
	if d := Backoff(pods, j, now); d > 0 {
		plan.Create, plan.Indexes, plan.Wait = 0, nil, d
	}
	return plan
}

// once splits the active pods of an indexed Job into one for each open index
// and the surplus.
func once(j *batch.Job, t Tally) (keep, extra []*v1.Pod) {
	seen := map[int]bool{}
	sorted := slices.SortedFunc(slices.Values(t.Active), func(a, b *v1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range sorted {
		i := indexOf(p)
		if i < 0 || i >= completions(j) || seen[i] || t.Done.Has(i) || t.Lost.Has(i) {
			extra = append(extra, p)
			continue
		}
		seen[i] = true
		keep = append(keep, p)
	}
	return keep, extra
}

// Backoff is how long to wait after failures in a row: those since the last
// success.
func Backoff(pods []*v1.Pod, j *batch.Job, now time.Time) time.Duration {
	var success, last time.Time
	for _, p := range pods {
		if p.Status.Phase == v1.PodSucceeded {
			if at := endOf(p); at.After(success) {
				success = at
			}
		}
	}
	n := 0
	for _, p := range pods {
		if p.Status.Phase != v1.PodFailed {
			continue
		}
		if at := endOf(p); at.After(success) {
			n++
			if at.After(last) {
				last = at
			}
		}
	}
	return remaining(n, last, now)
}

func remaining(failures int, last, now time.Time) time.Duration {
	if failures == 0 || last.IsZero() {
		return 0
	}
	d := maxBackoff
	if failures < 8 {
		d = min(maxBackoff, firstBackoff<<(failures-1))
	}
	return max(0, last.Add(d).Sub(now))
}

// endOf is when the pod's last container ended.
func endOf(p *v1.Pod) time.Time {
	var at time.Time
	for _, s := range p.Status.ContainerStatuses {
		if e := s.State.Terminated; e != nil && e.FinishedAt.After(at) {
			at = e.FinishedAt.Time
		}
	}
	if at.IsZero() {
		if c := podcontrol.Condition(&p.Status, v1.PodReady); c != nil {
			at = c.LastTransitionTime.Time
		}
	}
	if at.IsZero() && p.DeletionTimestamp != nil {
		at = p.DeletionTimestamp.Time
	}
	if at.IsZero() {
		at = p.CreationTimestamp.Time
	}
	return at
}
