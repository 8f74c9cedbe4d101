package backup

import (
	"errors"
	"fmt"
	"time"
)

// Schedule says how often a node is backed up, to where, and how many archives
// are kept.
type Schedule struct {
	// To is a folder or a bucket; see Open.
	To string `json:"to"`
	// Every is the time between two backups, such as 6h.
	Every string `json:"every"`
	// Keep is how many archives of this node stay.
	Keep int `json:"keep"`
}

// minEvery keeps a mistake from filling the place.
const minEvery = time.Minute

// Interval is Every as a duration.
func (s *Schedule) Interval() (time.Duration, error) {
	every, err := time.ParseDuration(s.Every)
	if err != nil {
		return 0, fmt.Errorf("every: %q: want a duration such as 6h", s.Every)
	}
	if every < minEvery {
		return 0, fmt.Errorf("every: %v: want %v or more", every, minEvery)
	}
	return every, nil
}

// Validate checks a schedule.
func (s *Schedule) Validate() error {
	var errs []error
	if _, err := s.Interval(); err != nil {
		errs = append(errs, err)
	}
	if s.Keep < 1 {
		errs = append(errs, fmt.Errorf("keep: %d: want 1 or more", s.Keep))
	}
	if _, err := Open(s.To); err != nil {
		errs = append(errs, fmt.Errorf("to: %w", err))
	}
	return errors.Join(errs...)
}

// Due tells when the next backup of a node is to be made, going by what its place
// holds: a restart forgets nothing. It is not after now when it is due.
func Due(node string, names []string, every time.Duration, now time.Time) time.Time {
	var newest time.Time
	for _, at := range Times(node, names) {
		// One from the future is of a clock that was wrong.
		if at.After(newest) && !at.After(now.Add(every)) {
			newest = at
		}
	}
	if newest.IsZero() {
		return now
	}
	return newest.Add(every)
}
