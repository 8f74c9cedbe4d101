package flowcontrol

import (
	"container/list"
	"hash/fnv"
	"math"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/request"
)

// level is the state of one priority level. The controller's lock guards it.
type level struct {
	name, uid string
	exempt    bool
	// nominal is the level's own share of the seats; lendable of them others may
	// use while they are idle, and borrowable bounds what it may use of others'.
	nominal, lendable, borrowable int
	queues                        []*queue
	handSize, lengthLimit         int

	// executing requests have seats of the level's.
	executing, seats int
	// running are the tickets that have a seat.
	running map[*ticket]struct{}
	// dispatched and rejected count requests since the level is known, the latter by
	// why they were.
	dispatched int
	rejected   map[string]int
	// turn is where the search for the next queue begins.
	turn int
}

func newLevel() *level { return &level{running: map[*ticket]struct{}{}, rejected: map[string]int{}} }

// queue holds the waiting requests of the flows that were dealt to it.
type queue struct {
	waiting list.List // of *ticket
	// executing requests have seats; waitingSeats are those that the others will take.
	executing, seats, waitingSeats int
}

// ticket is a request that waits for its seats.
type ticket struct {
	level *level
	queue *queue
	elem  *list.Element
	// width is how many seats the request takes.
	width int
	// granted is closed when the request may run.
	granted chan struct{}

	// What the request is, and when it came and was let run.
	flow          flow
	arrived, runs time.Time
}

// flow is what requests share a queue by, with the request that is of it.
type flow struct {
	schema, distinguisher string
	user                  user.Info
	info                  *request.Info
}

func (f flow) key() string { return f.schema + "\x00" + f.distinguisher }

// configure sets a level to its object; what waits or runs stays.
func (l *level) configure(o *flowcontrolv1.PriorityLevelConfiguration, total, shares int) {
	l.name, l.uid = o.Name, string(o.UID)
	l.exempt = o.Spec.Type == flowcontrolv1.PriorityLevelEnablementExempt
	if l.exempt {
		return
	}
	c := o.Spec.Limited
	l.nominal = int(math.Ceil(float64(total) * float64(sharesOf(o)) / float64(max(shares, 1))))
	l.lendable, l.borrowable = 0, math.MaxInt32
	if p := c.LendablePercent; p != nil {
		l.lendable = int(math.Round(float64(l.nominal) * float64(*p) / 100))
	}
	if p := c.BorrowingLimitPercent; p != nil {
		l.borrowable = int(math.Round(float64(l.nominal) * float64(*p) / 100))
	}
	q := c.LimitResponse.Queuing
	if c.LimitResponse.Type != flowcontrolv1.LimitResponseTypeQueue || q == nil {
		l.handSize, l.lengthLimit = 0, 0
		return
	}
	l.handSize, l.lengthLimit = int(q.HandSize), int(q.QueueLengthLimit)
	for len(l.queues) < int(q.Queues) {
		l.queues = append(l.queues, &queue{})
	}
	// Queues that are too many go once they are empty.
	for len(l.queues) > int(q.Queues) && l.queues[len(l.queues)-1].waiting.Len() == 0 && l.queues[len(l.queues)-1].executing == 0 {
		l.queues = l.queues[:len(l.queues)-1]
	}
}

// sharesOf are the level's shares of all seats.
func sharesOf(o *flowcontrolv1.PriorityLevelConfiguration) int {
	if o.Spec.Limited == nil {
		return 0
	}
	if s := o.Spec.Limited.NominalConcurrencyShares; s != nil {
		return int(*s)
	}
	return 30
}

// choose is the shortest of the queues that the flow's hand holds. Different
// flows get different hands, so that a heavy one shares few queues with another.
func (l *level) choose(flow string) *queue {
	h := fnv.New64a()
	_, _ = h.Write([]byte(flow)) // a hash does not fail
	x := h.Sum64()
	deck := make([]int, len(l.queues))
	for i := range deck {
		deck[i] = i
	}
	var best *queue
	for i := range min(l.handSize, len(deck)) {
		left := uint64(len(deck) - i)
		j := i + int(x%left)
		x /= left
		deck[i], deck[j] = deck[j], deck[i]
		q := l.queues[deck[i]]
		if best == nil || q.load() < best.load() {
			best = q
		}
	}
	return best
}

func (q *queue) load() int { return q.waitingSeats + q.seats }

// next is the ticket that has waited longest in the queue that has the fewest seats
// taken, so that every flow gets on; nil when none waits. It stays where it is.
func (l *level) next() *ticket {
	var best *queue
	at := 0
	for i := range l.queues {
		k := (l.turn + i) % len(l.queues)
		q := l.queues[k]
		if q.waiting.Len() > 0 && (best == nil || q.seats < best.seats) {
			best, at = q, k
		}
	}
	if best == nil {
		return nil
	}
	l.turn = at
	return best.waiting.Front().Value.(*ticket)
}

// push and remove change who waits in the queue.
func (q *queue) push(t *ticket) {
	t.elem = q.waiting.PushBack(t)
	q.waitingSeats += t.width
}

func (q *queue) remove(t *ticket) {
	q.waiting.Remove(t.elem)
	t.elem = nil
	q.waitingSeats -= t.width
}

func (l *level) waiting() int {
	n := 0
	for _, q := range l.queues {
		n += q.waiting.Len()
	}
	return n
}
