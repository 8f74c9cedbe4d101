package group

import "time"

// pace decides how long a writer waits for a group to fill.
//
// Clients that wait for their answers before they write again fall into two halves:
// one's writes are committed while the other's gather, so each commit has half of
// them. A short wait for those who were just answered brings all into one commit.
type pace struct {
	// want is how many writes are worth waiting for, and limit for how long.
	want  int
	limit time.Duration
	// doubt is about clients that do not write again.
	doubt Doubt
}

// maxLinger bounds a wait, which is never longer than the commit that it may save.
const maxLinger = 2 * time.Millisecond

// began tells that a group of so many was taken after a wait, if there was one.
func (p *pace) began(taken int, waited bool) {
	switch {
	case !waited:
	case taken >= p.want:
		p.doubt.Paid()
	default:
		p.doubt.Failed()
	}
}

// ended tells that a group of so many took so long, and how many wait by now.
func (p *pace) ended(answered, waiting int, took time.Duration) {
	p.want, p.limit = min(answered+waiting, maxGroup), 0
	if p.doubt.Try() {
		p.limit = min(took, maxLinger)
	}
}
