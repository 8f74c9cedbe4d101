package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// job runs a script of busybox in n pods.
func job(name, script string, n int32) *batchv1.Job {
	t := template(name)
	t.Spec.RestartPolicy = corev1.RestartPolicyNever
	t.Spec.Containers[0].Image = "busybox"
	t.Spec.Containers[0].Command = []string{"/bin/sh", "-c", script}
	return &batchv1.Job{ObjectMeta: named(name), Spec: batchv1.JobSpec{
		Parallelism: &n, Completions: &n, BackoffLimit: ptr.To[int32](6), Template: t,
	}}
}

func indexed(name, script string, n int32) *batchv1.Job {
	j := job(name, script, n)
	j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
	return j
}

func (s *space) startJob(j *batchv1.Job) *batchv1.Job {
	s.t.Helper()
	out, err := s.client.BatchV1().Jobs(s.name).Create(s.ctx, j, metav1.CreateOptions{})
	s.must(err)
	return out
}

func (s *space) jobIs(name, what string, is func(*batchv1.Job) bool) *batchv1.Job {
	s.t.Helper()
	var j *batchv1.Job
	s.eventually(120*time.Second, "job "+name+" "+what, func() (err error) {
		if j, err = s.client.BatchV1().Jobs(s.name).Get(s.ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if !is(j) {
			return fmt.Errorf("%+v", j.Status)
		}
		return nil
	})
	return j
}

func jobCondition(j *batchv1.Job, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i, c := range j.Status.Conditions {
		if c.Type == kind && c.Status == corev1.ConditionTrue {
			return &j.Status.Conditions[i]
		}
	}
	return nil
}

func (s *space) jobEnds(name string, kind batchv1.JobConditionType) *batchv1.Job {
	s.t.Helper()
	return s.jobIs(name, "is "+string(kind), func(j *batchv1.Job) bool { return jobCondition(j, kind) != nil })
}

// Conformance: [sig-apps] Job should run a job to completion when tasks sometimes fail and are locally restarted
func TestAppsJobRestarts(t *testing.T) {
	s := parallel(t)
	j := job("job", "if [ -e /data/once ]; then exit 0; fi; touch /data/once; exit 1", 2)
	j.Spec.Completions = ptr.To[int32](4)
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	j.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "data"}}
	j.Spec.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	s.startJob(j)
	got := s.jobEnds("job", batchv1.JobComplete)
	if got.Status.Succeeded != 4 || got.Status.CompletionTime == nil || got.Status.Active != 0 {
		t.Errorf("the status is %+v", got.Status)
	}
	succeeded := 0
	for _, p := range s.podsOf("job") {
		if p.Status.Phase == corev1.PodSucceeded {
			succeeded++
			if n := p.Status.ContainerStatuses[0].RestartCount; n != 1 {
				t.Errorf("pod %s was restarted %d times, want once", p.Name, n)
			}
		}
	}
	if succeeded != 4 {
		t.Errorf("%d pods succeeded, want 4", succeeded)
	}
}

// Conformance: [sig-apps] Job should create pods for an Indexed job with completion indexes and specified hostname
func TestAppsJobIndexed(t *testing.T) {
	s := parallel(t)
	j := indexed("job", "echo $JOB_COMPLETION_INDEX $(hostname)", 4)
	j.Spec.Parallelism = ptr.To[int32](2)
	s.startJob(j)
	got := s.jobEnds("job", batchv1.JobComplete)
	if got.Status.CompletedIndexes != "0-3" {
		t.Errorf("the completed indexes are %q, want 0-3", got.Status.CompletedIndexes)
	}
	seen := map[string]bool{}
	for _, p := range s.podsOf("job") {
		index := p.Annotations[batchv1.JobCompletionIndexAnnotation]
		seen[index] = true
		if p.Spec.Hostname != "job-"+index || !strings.HasPrefix(p.Name, "job-"+index+"-") || p.Labels[batchv1.JobCompletionIndexAnnotation] != index {
			t.Errorf("pod %s of index %s has host name %q and labels %v", p.Name, index, p.Spec.Hostname, p.Labels)
		}
		if out := strings.TrimSpace(s.logs(p.Name, "main")); out != index+" job-"+index {
			t.Errorf("pod %s of index %s says %q", p.Name, index, out)
		}
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, []string{"0", "1", "2", "3"}) {
		t.Errorf("the indexes are %v", got)
	}
}

// Conformance: [sig-apps] Job should adopt matching orphans and release non-matching pods
func TestAppsJobAdopts(t *testing.T) {
	s := parallel(t)
	made := s.startJob(job("job", "sleep 600", 2))
	p := s.running("job", 2)[0]
	pods := s.client.CoreV1().Pods(s.name)
	change := func(f func(*corev1.Pod)) {
		t.Helper()
		s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
			p, err := pods.Get(s.ctx, p.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			f(p)
			_, err = pods.Update(s.ctx, p, metav1.UpdateOptions{})
			return err
		}))
	}
	change(func(p *corev1.Pod) { p.OwnerReferences = nil })
	s.podIs(p.Name, "adopted again", func(p *corev1.Pod) bool { return owner(p).UID == made.UID })
	change(func(p *corev1.Pod) { p.Labels = nil })
	s.podIs(p.Name, "released", func(p *corev1.Pod) bool { return metav1.GetControllerOf(p) == nil })
	s.running("job", 2)
}

// Conformance: [sig-apps] Job should delete a job
func TestAppsJobDelete(t *testing.T) {
	s := parallel(t)
	s.startJob(job("job", "sleep 600", 2))
	s.running("job", 2)
	s.jobIs("job", "active", func(j *batchv1.Job) bool { return j.Status.Active == 2 && ptr.Deref(j.Status.Ready, 0) == 2 })
	s.must(s.client.BatchV1().Jobs(s.name).Delete(s.ctx, "job", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationForeground)}))
	s.gone("the job", func() error {
		_, err := s.client.BatchV1().Jobs(s.name).Get(s.ctx, "job", metav1.GetOptions{})
		return err
	})
	if pods := s.podsOf("job"); len(pods) != 0 {
		t.Errorf("%d pods outlive the job", len(pods))
	}
}

// Conformance: [sig-apps] Job should apply changes to a job status
func TestAppsJobStatus(t *testing.T) {
	s := parallel(t)
	jobs := s.client.BatchV1().Jobs(s.name)
	j := job("job", "sleep 600", 2)
	j.Spec.Completions = ptr.To[int32](4)
	made := s.startJob(j)
	s.running("job", 2)
	custom, err := json.Marshal(batchv1.JobStatus{Conditions: []batchv1.JobCondition{{
		Type: "CustomConditionType", Status: corev1.ConditionTrue, LastProbeTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}})
	s.must(err)
	patched, err := jobs.Patch(s.ctx, "job", types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"patchedstatus":"true"}},"status":`+string(custom)+`}`), metav1.PatchOptions{}, "status")
	s.must(err)
	if jobCondition(patched, "CustomConditionType") == nil || patched.Annotations["patchedstatus"] != "true" {
		t.Errorf("the patched job has annotations %v and conditions %+v", patched.Annotations, patched.Status.Conditions)
	}
	var updated *batchv1.Job
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		j, err := jobs.Get(s.ctx, "job", metav1.GetOptions{})
		if err != nil {
			return err
		}
		j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{Type: "StatusUpdate", Status: corev1.ConditionTrue})
		updated, err = jobs.UpdateStatus(s.ctx, j, metav1.UpdateOptions{})
		return err
	}))
	if jobCondition(updated, "StatusUpdate") == nil {
		t.Errorf("the updated job has conditions %+v", updated.Status.Conditions)
	}
	got, err := s.dynamic.Resource(batchv1.SchemeGroupVersion.WithResource("jobs")).Namespace(s.name).Get(s.ctx, "job", metav1.GetOptions{}, "status")
	s.must(err)
	if uid, _, _ := unstructured.NestedString(got.Object, "metadata", "uid"); uid != string(made.UID) || !hasCondition(got, "StatusUpdate") {
		t.Errorf("/status is of uid %s with %v", uid, got.Object["status"])
	}
}

// Conformance: [sig-apps] Job should manage the lifecycle of a job
func TestAppsJobLifecycle(t *testing.T) {
	s := parallel(t)
	jobs := s.client.BatchV1().Jobs(s.name)
	label := "test=" + s.name
	j := job("job", "sleep 600", 2)
	j.Labels["test"] = s.name
	j.Spec.Suspend = ptr.To(true)
	s.startJob(j)
	s.jobIs("job", "suspended", func(j *batchv1.Job) bool { return jobCondition(j, batchv1.JobSuspended) != nil })
	if n := len(s.podsOf("job")); n != 0 {
		t.Errorf("a suspended job has %d pods", n)
	}
	patched, err := jobs.Patch(s.ctx, "job", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"job":"patched"}}}`), metav1.PatchOptions{})
	s.must(err)
	if patched.Labels["job"] != "patched" {
		t.Errorf("the patched job has labels %v", patched.Labels)
	}
	w, err := jobs.Watch(s.ctx, metav1.ListOptions{LabelSelector: label, ResourceVersion: patched.ResourceVersion})
	s.must(err)
	defer w.Stop()
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		j, err := jobs.Get(s.ctx, "job", metav1.GetOptions{})
		if err != nil {
			return err
		}
		j.Annotations = map[string]string{"updated": "true"}
		j.Spec.Suspend = ptr.To(false)
		_, err = jobs.Update(s.ctx, j, metav1.UpdateOptions{})
		return err
	}))
	s.seen(w, "the update", func(kind watch.EventType, obj runtime.Object) bool {
		j := obj.(*batchv1.Job)
		return kind == watch.Modified && j.Annotations["updated"] == "true" && !*j.Spec.Suspend
	})
	s.running("job", 2)
	list, err := s.client.BatchV1().Jobs("").List(s.ctx, metav1.ListOptions{LabelSelector: label})
	s.must(err)
	if len(list.Items) != 1 {
		t.Errorf("the list of all namespaces has %d jobs, want 1", len(list.Items))
	}
	s.must(jobs.DeleteCollection(s.ctx, metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationForeground)}, metav1.ListOptions{LabelSelector: label}))
	s.seen(w, "its end", func(kind watch.EventType, _ runtime.Object) bool { return kind == watch.Deleted })
}

// Conformance: [sig-apps] Job should allow to use a pod failure policy to ignore failure matching on DisruptionTarget condition
func TestAppsJobIgnoresDisruption(t *testing.T) {
	s := parallel(t)
	j := indexed("job", "if [ -e /data/$JOB_COMPLETION_INDEX ]; then exit 0; fi; touch /data/$JOB_COMPLETION_INDEX; trap 'exit 3' TERM; sleep 600 & wait", 2)
	j.Spec.BackoffLimit = ptr.To[int32](0)
	j.Spec.Template.Spec.NodeName = s.everyNode()[0]
	j.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{
		Path: t.TempDir(), Type: ptr.To(corev1.HostPathDirectoryOrCreate),
	}}}}
	j.Spec.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	j.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{
		Action:          batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
	}}}
	s.startJob(j)
	for _, p := range s.running("job", 2) {
		s.must(s.client.CoreV1().Pods(s.name).EvictV1(s.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: s.name}}))
	}
	if got := s.jobEnds("job", batchv1.JobComplete); got.Status.Failed != 0 || got.Status.Succeeded != 2 {
		t.Errorf("the status is %+v", got.Status)
	}
}
