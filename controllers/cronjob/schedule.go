package cronjob

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batch "k8s.io/api/batch/v1"
)

// manyMissed is how many missed runs are worth a warning.
const manyMissed = 100

// Parse reads the schedule in its time zone. A zone inside the schedule is
// what older objects may still have.
func Parse(c *batch.CronJob) (cron.Schedule, error) {
	spec := c.Spec.Schedule
	if c.Spec.TimeZone != nil && !strings.Contains(spec, "TZ") {
		if _, err := time.LoadLocation(*c.Spec.TimeZone); err != nil {
			return nil, fmt.Errorf("time zone %q: %w", *c.Spec.TimeZone, err)
		}
		spec = "TZ=" + *c.Spec.TimeZone + " " + spec
	}
	return cron.ParseStandard(spec)
}

// Due is the last run that should have begun and has not.
type Due struct {
	// At is the time of the run; zero when none is due.
	At time.Time
	// Missed is how many earlier runs were skipped.
	Missed int
	// Next is the run after now.
	Next time.Time
}

// Next finds what is due at now.
func Next(c *batch.CronJob, s cron.Schedule, now time.Time) Due {
	earliest := c.CreationTimestamp.Time
	if c.Status.LastScheduleTime != nil {
		earliest = c.Status.LastScheduleTime.Time
	}
	if d := c.Spec.StartingDeadlineSeconds; d != nil {
		if from := now.Add(-time.Duration(*d) * time.Second); from.After(earliest) {
			earliest = from
		}
	}
	due := Due{Next: s.Next(now)}
	first := s.Next(earliest)
	if first.IsZero() || first.After(now) {
		return due
	}
	second := s.Next(first)
	if second.IsZero() || second.After(now) {
		due.At = first
		return due
	}
	// A long gap is crossed in whole periods instead of run by run.
	period := second.Sub(first)
	skip := now.Sub(first) / period
	at := first
	if skip > 2 {
		at = s.Next(first.Add((skip - 2) * period).Add(-time.Second))
		if at.After(now) || at.Before(first) {
			at = first
		} else {
			due.Missed = int(skip) - 2
		}
	}
	for next := s.Next(at); !next.IsZero() && !next.After(now); next = s.Next(at) {
		at = next
		due.Missed++
	}
	due.At = at
	return due
}
