package garbagecollector

import (
	"context"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"skiff/client/ownerwatch"
)

// stream follows all that our own API server keeps with one watch. What it does
// not cover has a monitor: what other servers keep, or everything where the API
// server has no such watch.
type stream struct {
	c *Controller

	mu       sync.Mutex // guards covered and kinds
	covered  map[schema.GroupResource]schema.GroupVersionResource
	kinds    map[schema.GroupVersionKind]kept
	settled  chan struct{} // closed once it is known what is covered
	settling sync.Once
}

// kept is where objects of a kind are.
type kept struct {
	gvr        schema.GroupVersionResource
	namespaced bool
}

func newStream(c *Controller) *stream {
	return &stream{
		c: c, covered: map[schema.GroupResource]schema.GroupVersionResource{}, kinds: map[schema.GroupVersionKind]kept{}, settled: make(chan struct{}),
	}
}

// find tells where objects of a kind are, sooner than discovery is read again.
func (s *stream) find(gvk schema.GroupVersionKind) (kept, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kinds[gvk]
	return k, ok
}

// covers tells whether the stream follows a resource.
func (s *stream) covers(gr schema.GroupResource) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.covered[gr]
	return ok
}

// run keeps the stream open until ctx ends.
func (s *stream) run(ctx context.Context, retry, missing time.Duration) {
	logger := klog.FromContext(ctx)
	for ctx.Err() == nil {
		pause := retry
		switch err := s.follow(ctx); {
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err), apierrors.IsMethodNotSupported(err):
			// What was covered gets monitors with the next look at discovery.
			s.mu.Lock()
			clear(s.covered)
			clear(s.kinds)
			s.mu.Unlock()
			s.settling.Do(func() { close(s.settled) })
			pause = missing
		case ctx.Err() == nil:
			logger.V(2).Info("The watch of owners ended, it is opened again", "err", err)
		}
		timer := s.c.parts.Clock.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
		timer.Stop()
	}
}

// follow reads one answer to its end.
func (s *stream) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := ownerwatch.Open(ctx, s.c.parts.Client.CoreV1().RESTClient())
	if err != nil {
		return err
	}
	defer in.Close()
	r := reader{s: s, resources: map[int]*followed{}}
	defer r.release()
	for {
		f, err := in.Next()
		if err != nil {
			return err
		}
		r.frame(f)
	}
}

// reader applies the frames of one answer.
type reader struct {
	s         *stream
	resources map[int]*followed
	// gated: the collector waits while what is new fills.
	gated  bool
	synced bool
}

// followed is a resource in an answer.
type followed struct {
	gvr schema.GroupVersionResource
	gvk schema.GroupVersionKind
	// before are the objects that were known when its list began; nil outside of one.
	before map[types.UID]struct{}
}

func (r *reader) release() {
	if r.gated {
		r.gated = false
		r.s.c.gate.Unlock()
	}
}

func (r *reader) frame(f *ownerwatch.Frame) {
	c := r.s.c
	switch f.Kind {
	case ownerwatch.List:
		r.list(f)
		return
	case ownerwatch.Synced:
		r.release()
		if !r.synced {
			r.synced = true
			r.drop()
		}
		r.s.settling.Do(func() { close(r.s.settled) })
		return
	}
	res := r.resources[f.Number]
	if res == nil {
		return
	}
	switch f.Kind {
	case ownerwatch.Listed:
		for uid := range res.before {
			c.notify(c.graph.Forget(uid))
		}
		res.before = nil
	case ownerwatch.Put:
		if f.Object != nil {
			delete(res.before, f.Object.UID)
			c.notify(c.graph.Observe(res.gvr, res.gvk, f.Object.Metadata()))
		}
	case ownerwatch.Delete:
		if f.Object != nil {
			c.notify(c.graph.Forget(f.Object.UID))
		}
	case ownerwatch.Gone:
		delete(r.resources, f.Number)
		r.s.uncover(res.gvr)
	}
}

func (r *reader) list(f *ownerwatch.Frame) {
	if f.Resource == nil {
		return
	}
	if !r.gated {
		r.gated = true
		r.s.c.gate.Lock()
	}
	next := &followed{gvr: f.Resource.GVR(), gvk: f.Resource.GVK(), before: map[types.UID]struct{}{}}
	r.resources[f.Number] = next
	r.s.mu.Lock()
	old, known := r.s.covered[next.gvr.GroupResource()]
	r.s.covered[next.gvr.GroupResource()] = next.gvr
	r.s.dropKinds(old)
	r.s.kinds[next.gvk] = kept{next.gvr, f.Resource.Namespaced}
	r.s.mu.Unlock()
	if !known {
		return
	}
	for _, uid := range r.s.c.graph.Of(old) {
		next.before[uid] = struct{}{}
	}
}

// drop forgets what was covered by an earlier answer and is not by this one.
func (r *reader) drop() {
	here := map[schema.GroupResource]bool{}
	for _, res := range r.resources {
		here[res.gvr.GroupResource()] = true
	}
	r.s.mu.Lock()
	all := maps.Clone(r.s.covered)
	r.s.mu.Unlock()
	for gr, gvr := range all {
		if !here[gr] {
			r.s.uncover(gvr)
		}
	}
}

// uncover forgets a resource that is not served any more.
func (s *stream) uncover(gvr schema.GroupVersionResource) {
	s.mu.Lock()
	delete(s.covered, gvr.GroupResource())
	s.dropKinds(gvr)
	s.mu.Unlock()
	for _, uid := range s.c.graph.Of(gvr) {
		s.c.notify(s.c.graph.Forget(uid))
	}
}

// dropKinds forgets the kind of a resource; the caller holds mu.
func (s *stream) dropKinds(gvr schema.GroupVersionResource) {
	maps.DeleteFunc(s.kinds, func(_ schema.GroupVersionKind, k kept) bool { return k.gvr == gvr })
}
