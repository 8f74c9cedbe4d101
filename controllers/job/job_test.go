package job

import (
	"context"
	"testing"

	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/controllers/loop"
)

// TestJobRunsToItsEnd drives the whole controller by hand.
func TestJobRunsToItsEnd(t *testing.T) {
	ctx := context.Background()
	j := newJob(func(s *batch.JobSpec) {
		s.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"job": "j"}}
		s.Template.Labels = map[string]string{"job": "j"}
	})
	j.Status.StartTime = nil
	client := fake.NewClientset(j)
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := New(Config{Parts: loop.Parts{Client: client, Informers: factory}})
	if err != nil {
		t.Fatal(err)
	}
	sync := func(phase v1.PodPhase) *batch.Job {
		t.Helper()
		fresh, err := client.BatchV1().Jobs("default").Get(ctx, "j", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := factory.Batch().V1().Jobs().Informer().GetStore().Replace([]any{fresh}, ""); err != nil {
			t.Fatal(err)
		}
		pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var objs []any
		for i := range pods.Items {
			p := &pods.Items[i]
			p.UID, p.Status.Phase = types.UID("pod"), phase
			objs = append(objs, p)
		}
		if err := c.pods.GetStore().Replace(objs, ""); err != nil {
			t.Fatal(err)
		}
		c.awaited.Forget("default/j")
		if err := c.sync(ctx, "default/j"); err != nil {
			t.Fatal(err)
		}
		out, err := client.BatchV1().Jobs("default").Get(ctx, "j", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := sync(""); got.Status.Active != 1 || got.Status.StartTime == nil {
		t.Fatalf("after the start: %+v", got.Status)
	}
	if got := sync(v1.PodRunning); got.Status.Active != 1 {
		t.Fatalf("while it runs: %+v", got.Status)
	}
	got := sync(v1.PodSucceeded)
	end := Finished(got)
	if end == nil || end.Type != batch.JobComplete || got.Status.Succeeded != 1 || got.Status.CompletionTime == nil || got.Status.Active != 0 {
		t.Fatalf("after the end: %+v", got.Status)
	}
	if condition(got.Status, batch.JobSuccessCriteriaMet) == nil {
		t.Error("the interim condition is missing")
	}
}

// A cache that is behind what the controller wrote would have an index run again
// whose pod is not tracked any more.
func TestNewest(t *testing.T) {
	at := func(uid types.UID, version string) *batch.Job {
		return &batch.Job{ObjectMeta: metav1.ObjectMeta{UID: uid, ResourceVersion: version}}
	}
	for _, tc := range []struct {
		name            string
		cached, written *batch.Job
		want            string
	}{
		{"nothing was written", at("a", "5"), nil, "5"},
		{"the cache is behind", at("a", "9"), at("a", "10"), "10"},
		{"the cache has it", at("a", "10"), at("a", "10"), "10"},
		{"somebody else wrote since", at("a", "11"), at("a", "10"), "11"},
		{"another Job of the name", at("b", "9"), at("a", "10"), "9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &Controller{written: map[string]*batch.Job{}}
			if tc.written != nil {
				c.written["ns/j"] = tc.written
			}
			if got := c.newest("ns/j", tc.cached).ResourceVersion; got != tc.want {
				t.Errorf("version %s, want %s", got, tc.want)
			}
		})
	}
}
