package cronjob

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	batch "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"skiff/controllers/loop"
)

// The cache may show a CronJob as it was before the sync that made its Job.
func TestRefreshWithLateCache(t *testing.T) {
	cron := func(active ...string) *batch.CronJob {
		cj := &batch.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "ns"}}
		for _, name := range active {
			cj.Status.Active = append(cj.Status.Active, v1.ObjectReference{Name: name, UID: types.UID(name)})
		}
		return cj
	}
	for _, tc := range []struct {
		name         string
		cached, live *batch.CronJob
		want         []string
		active       int
	}{
		{"the status is on its way", cron("old"), cron("new"), nil, 1},
		{"nobody made the job", cron(), cron(), []string{"Warning UnexpectedJob Saw a job that the controller did not create or forgot: new"}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			events := record.NewFakeRecorder(9)
			c := &Controller{parts: loop.Parts{Client: fake.NewClientset(tc.live), Events: events}}
			job := &batch.Job{ObjectMeta: metav1.ObjectMeta{Name: "new", Namespace: "ns", UID: "new"}}
			if err := c.refresh(t.Context(), tc.cached, []*batch.Job{job}); err != nil {
				t.Fatal(err)
			}
			close(events.Events)
			var got []string
			for e := range events.Events {
				got = append(got, e)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if n := len(tc.cached.Status.Active); n != tc.active {
				t.Errorf("%d jobs are active, want %d", n, tc.active)
			}
		})
	}
}
