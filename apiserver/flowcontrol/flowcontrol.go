// Package flowcontrol shares the server's capacity out: requests are classified
// by FlowSchemas into priority levels, each level has its share of the seats, and
// within a level every flow gets on, whatever the others ask for.
package flowcontrol

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/flowcontrol/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/apiserver/handlers"
	"skiff/apiserver/request"
)

// Headers that tell a client how its request was classified.
const (
	SchemaHeader = flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID
	LevelHeader  = flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID
)

// Config of a Controller.
type Config struct {
	// Total is the number of seats: requests at work at once, of which long lists
	// have several.
	Total int
	// Objects tells how many objects are stored of a resource.
	Objects func(schema.GroupResource) int
	// Informers hold FlowSchemas and PriorityLevelConfigurations.
	Informers informers.SharedInformerFactory
	// Client writes the schemas' status; nil writes none.
	Client kubernetes.Interface
	// MaxWait bounds the time in a queue; default 15 s.
	MaxWait time.Duration
	// Observer is told of requests and of levels; nil is not.
	Observer Observer
}

// Observer is told what flow control does.
type Observer interface {
	// Classified is told of a request that was let run, or why it was rejected.
	Classified(schema, level, reason string)
	// Queued is told of each request that begins (1) or ends (-1) to wait in a queue.
	Queued(schema, level string, by float64)
	// Running is told of each request that begins (1) or ends (-1) to run on so many seats.
	Running(schema, level string, by, seats float64)
	// Waited is told how long a request was in a queue, and whether it then ran.
	Waited(schema, level string, took time.Duration, ran bool)
	// Seats is told a level's own share.
	Seats(level string, n int)
}

// Controller is the filter.
type Controller struct {
	cfg     Config
	schemas listers.FlowSchemaLister
	levels  listers.PriorityLevelConfigurationLister
	synced  []cache.InformerSynced
	changed chan struct{}

	mu    sync.Mutex // guards what follows
	order []*flowcontrolv1.FlowSchema
	known map[string]*level
}

// New checks the configuration. The informers are started by their owner.
func New(c Config) (*Controller, error) {
	if c.Informers == nil || c.Objects == nil || c.Total < 1 {
		return nil, errors.New("flow control: Informers and Objects must be set and Total at least 1: see --max-requests-inflight")
	}
	if c.MaxWait == 0 {
		c.MaxWait = 15 * time.Second
	}
	f := c.Informers.Flowcontrol().V1()
	ctl := &Controller{
		cfg: c, schemas: f.FlowSchemas().Lister(), levels: f.PriorityLevelConfigurations().Lister(),
		changed: make(chan struct{}, 1), known: map[string]*level{},
	}
	wake := func(any) {
		select {
		case ctl.changed <- struct{}{}:
		default:
		}
	}
	for _, i := range []cache.SharedIndexInformer{f.FlowSchemas().Informer(), f.PriorityLevelConfigurations().Informer()} {
		reg, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: wake, UpdateFunc: func(_, o any) { wake(o) }, DeleteFunc: wake})
		if err != nil {
			return nil, err
		}
		ctl.synced = append(ctl.synced, reg.HasSynced)
	}
	return ctl, nil
}

// Run follows the objects until ctx ends. Before it has read them nothing is limited.
func (c *Controller) Run(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return nil
	}
	for {
		if err := c.reload(); err != nil {
			return err
		}
		c.writeStatus(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		}
	}
}

func (c *Controller) reload() error {
	schemas, err := c.schemas.List(labels.Everything())
	if err != nil {
		return err
	}
	levels, err := c.levels.List(labels.Everything())
	if err != nil {
		return err
	}
	order(schemas)
	shares := 0
	for _, o := range levels {
		shares += sharesOf(o)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order = schemas
	seen := map[string]bool{}
	for _, o := range levels {
		l := c.known[o.Name]
		if l == nil {
			l = newLevel()
			c.known[o.Name] = l
		}
		l.configure(o, c.cfg.Total, shares)
		if c.cfg.Observer != nil && !l.exempt {
			c.cfg.Observer.Seats(o.Name, l.nominal)
		}
		seen[o.Name] = true
	}
	for name, l := range c.known {
		// What still waits in a level that is gone is let through.
		if !seen[name] {
			l.exempt = true
			delete(c.known, name)
			c.drain(l)
		}
	}
	c.dispatch()
	return nil
}

func (c *Controller) drain(l *level) {
	for t := l.next(); t != nil; t = l.next() {
		t.queue.remove(t)
		c.grant(t)
	}
}

// classify finds the request's schema and level; nil before they are known. The
// caller holds mu.
func (c *Controller) classify(r *http.Request, info *request.Info) (*flowcontrolv1.FlowSchema, *level) {
	u := request.UserFrom(r.Context())
	if u == nil {
		return nil, nil
	}
	for _, s := range c.order {
		if l := c.known[s.Spec.PriorityLevelConfiguration.Name]; l != nil && matches(s, u, info) {
			return s, l
		}
	}
	return nil, nil
}

// errRejected and the reasons of a rejection, as upstream's metrics name them.
const (
	reasonFull    = "queue-full"
	reasonLimit   = "concurrency-limit"
	reasonTimeout = "time-out"
	reasonGone    = "cancelled"
)

// Wrap bounds the requests that pass. Watches and streams take no seat: they are
// long, and cost little.
func (c *Controller) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := request.InfoFrom(r.Context())
		objects := 0
		if info.Verb == "list" {
			objects = c.cfg.Objects(schema.GroupResource{Group: info.APIGroup, Resource: info.Resource})
		}
		c.mu.Lock()
		fs, l := c.classify(r, info)
		if fs == nil {
			c.mu.Unlock()
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set(SchemaHeader, string(fs.UID))
		w.Header().Set(LevelHeader, l.uid)
		level := l.name // it is only read under the lock
		if l.exempt || info.LongRunning(r) {
			l.dispatched++
			c.mu.Unlock()
			c.observe(fs.Name, level, "")
			next.ServeHTTP(w, r)
			return
		}
		u := request.UserFrom(r.Context())
		t, reason := c.enter(l, flow{fs.Name, distinguish(fs, u, info), u, info}, width(r, info, l.nominal, objects))
		c.mu.Unlock()
		if reason == "" {
			reason = c.waitObserved(r.Context(), t, fs.Name, level)
		}
		c.observe(fs.Name, level, reason)
		if reason == reasonGone {
			return
		}
		if reason != "" {
			w.Header().Set("Retry-After", "1")
			handlers.WriteError(w, r, apierrors.NewTooManyRequests("Too many requests, please try again later.", 1))
			return
		}
		defer c.leave(t)
		if o := c.cfg.Observer; o != nil {
			o.Running(fs.Name, level, 1, float64(t.width))
			defer o.Running(fs.Name, level, -1, float64(t.width))
		}
		next.ServeHTTP(w, r)
	})
}

func (c *Controller) observe(schema, level, reason string) {
	if c.cfg.Observer != nil {
		c.cfg.Observer.Classified(schema, level, reason)
	}
}

// waitObserved is wait, told of where it has to.
func (c *Controller) waitObserved(ctx context.Context, t *ticket, schema, level string) string {
	o := c.cfg.Observer
	if o == nil {
		return c.wait(ctx, t)
	}
	select {
	case <-t.granted:
		o.Waited(schema, level, 0, true)
		return ""
	default:
	}
	start := time.Now()
	o.Queued(schema, level, 1)
	reason := c.wait(ctx, t)
	o.Queued(schema, level, -1)
	o.Waited(schema, level, time.Since(start), reason == "")
	return reason
}

// enter seats the request, or queues it, or rejects it. The caller holds mu.
func (c *Controller) enter(l *level, f flow, wide int) (*ticket, string) {
	t := &ticket{level: l, width: wide, granted: make(chan struct{}), flow: f, arrived: time.Now()}
	if l.handSize == 0 || len(l.queues) == 0 {
		if !c.seatsFor(l, wide) {
			l.rejected[reasonLimit]++
			return nil, reasonLimit
		}
		c.grant(t)
		return t, ""
	}
	t.queue = l.choose(f.key())
	if l.waiting() == 0 && c.seatsFor(l, wide) {
		c.grant(t)
		return t, ""
	}
	if t.queue.waiting.Len() >= l.lengthLimit {
		l.rejected[reasonFull]++
		return nil, reasonFull
	}
	t.queue.push(t)
	c.dispatch()
	return t, ""
}

// seatsFor tells whether the level may run a request of n seats: on seats of its own, or
// on such that other levels lend. What is wider than the level runs when it runs alone.
// The caller holds mu.
func (c *Controller) seatsFor(l *level, n int) bool {
	over := l.seats + n - l.nominal
	if over <= 0 || l.seats == 0 && l.nominal > 0 {
		return true
	}
	if over > l.borrowable {
		return false
	}
	lent := 0
	for _, o := range c.known {
		switch {
		case o.exempt:
		case o.seats > o.nominal:
			lent -= o.seats - o.nominal
		case o != l:
			lent += min(o.lendable, o.nominal-o.seats)
		}
	}
	return lent >= over-max(0, l.seats-l.nominal)
}

func (c *Controller) grant(t *ticket) {
	l := t.level
	l.executing++
	l.seats += t.width
	l.dispatched++
	l.running[t] = struct{}{}
	t.runs = time.Now()
	if t.queue != nil {
		t.queue.executing++
		t.queue.seats += t.width
	}
	close(t.granted)
}

// dispatch seats those that wait wherever there is room. The caller holds mu.
func (c *Controller) dispatch() {
	for _, l := range c.known {
		for t := l.next(); t != nil && (l.exempt || c.seatsFor(l, t.width)); t = l.next() {
			t.queue.remove(t)
			l.turn++
			c.grant(t)
		}
	}
}

// wait is until the ticket is granted, or why it was not.
func (c *Controller) wait(ctx context.Context, t *ticket) string {
	select {
	case <-t.granted:
		return ""
	default:
	}
	timer := time.NewTimer(c.cfg.MaxWait)
	defer timer.Stop()
	reason := reasonTimeout
	select {
	case <-t.granted:
		return ""
	case <-timer.C:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			reason = reasonGone
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.elem != nil {
		t.queue.remove(t)
		t.level.rejected[reason]++
		return reason
	}
	// It was granted meanwhile.
	if reason == reasonGone {
		c.leaveLocked(t)
		return reason
	}
	return ""
}

func (c *Controller) leave(t *ticket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaveLocked(t)
}

func (c *Controller) leaveLocked(t *ticket) {
	t.level.executing--
	t.level.seats -= t.width
	delete(t.level.running, t)
	if t.queue != nil {
		t.queue.executing--
		t.queue.seats -= t.width
	}
	c.dispatch()
}
