package cronjob

import (
	"testing"
	"time"

	batch "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestNext(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.DateTime, "2026-01-02 "+s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for name, tc := range map[string]struct {
		schedule, last, now string
		deadline            *int64
		want                string
		missed              int
	}{
		"none yet":            {"*/10 * * * *", "10:00:00", "10:09:59", nil, "", 0},
		"due":                 {"*/10 * * * *", "10:00:00", "10:10:01", nil, "10:10:00", 0},
		"only the last one":   {"*/10 * * * *", "10:00:00", "10:31:00", nil, "10:30:00", 2},
		"long gap":            {"* * * * *", "01:00:00", "10:00:30", nil, "10:00:00", 539},
		"beyond the deadline": {"*/10 * * * *", "10:00:00", "10:15:00", ptr.To[int64](60), "", 0},
		"uneven":              {"0 9,10 * * *", "08:00:00", "10:30:00", nil, "10:00:00", 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := &batch.CronJob{Spec: batch.CronJobSpec{Schedule: tc.schedule, StartingDeadlineSeconds: tc.deadline}}
			c.Status.LastScheduleTime = &metav1.Time{Time: at(tc.last)}
			s, err := Parse(c)
			if err != nil {
				t.Fatal(err)
			}
			due := Next(c, s, at(tc.now))
			want := time.Time{}
			if tc.want != "" {
				want = at(tc.want)
			}
			if !due.At.Equal(want) || due.Missed != tc.missed {
				t.Errorf("due at %v after %d missed, want %v after %d", due.At, due.Missed, want, tc.missed)
			}
		})
	}
}

func TestTimeZone(t *testing.T) {
	c := &batch.CronJob{Spec: batch.CronJobSpec{Schedule: "0 0 * * *", TimeZone: ptr.To("Asia/Tokyo")}}
	s, err := Parse(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Next(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)).UTC(); got.Hour() != 15 {
		t.Errorf("midnight in Tokyo is %v", got)
	}
	c.Spec.TimeZone = ptr.To("Nowhere/Land")
	if _, err := Parse(c); err == nil {
		t.Error("an unknown zone was accepted")
	}
}
