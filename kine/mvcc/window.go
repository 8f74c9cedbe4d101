package mvcc

import "time"

// Window remembers which revision was the newest one at which time.
type Window struct {
	// Span is how long a revision stays in the window.
	Span    time.Duration
	samples []sample
}

type sample struct {
	at       time.Time
	revision int64
}

// Move notes the newest revision, and tells the newest one that has left the window
// since the last turn; 0 for none.
func (w *Window) Move(now time.Time, revision int64) (left int64) {
	w.samples = append(w.samples, sample{now, revision})
	for len(w.samples) > 0 && now.Sub(w.samples[0].at) >= w.Span {
		left, w.samples = w.samples[0].revision, w.samples[1:]
	}
	return left
}
