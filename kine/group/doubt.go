package group

// Doubt decides whether something that can be in vain is tried: after a failure it is
// left out for a while, longer each time.
type Doubt struct{ skip, misses int }

// maxSkip bounds how often in a row it is left out.
const maxSkip = 256

// Try tells whether it is worth it this time.
func (d *Doubt) Try() bool {
	if d.skip > 0 {
		d.skip--
		return false
	}
	return true
}

// Paid and Failed tell how a try went.
func (d *Doubt) Paid() { d.misses = 0 }

// Failed is the opposite of Paid.
func (d *Doubt) Failed() {
	d.misses = min(d.misses+1, 8)
	d.skip = min(1<<d.misses, maxSkip)
}
