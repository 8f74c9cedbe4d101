// Package garbagecollector deletes objects whose owners are gone, finishes
// foreground deletions and sets the dependents of orphaning owners free.
package garbagecollector

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/restmapper"
	"k8s.io/klog/v2"

	"skiff/controllers/loop"
)

const orphanPrefix = "orphan/"

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Metadata watches and changes objects of every kind. Required.
	Metadata metadata.Interface
	// Resync is how often the list of resources is read. Default: 30 s.
	Resync time.Duration
}

// Controller keeps the graph of owners and acts on it.
type Controller struct {
	*loop.Loop
	parts    loop.Parts
	metadata metadata.Interface
	graph    *Graph
	mapper   atomic.Pointer[meta.RESTMapper]
	stream   *stream
	// deletable are the resources at the last look at discovery.
	deletable map[schema.GroupVersionResource]schema.GroupVersionKind

	// gate is held by resync while new watches fill: a deletion decided on half
	// a graph could let an owner go before its dependents.
	gate   sync.RWMutex
	ready  chan struct{}
	first  sync.Once
	absent *absentOwners
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	if c.Workers == 0 {
		c.Workers = 20
	}
	parts, err := c.Complete("garbagecollector")
	if c.Metadata == nil {
		err = errors.Join(err, errors.New("garbagecollector: Metadata is nil: give a metadata client"))
	}
	if err != nil {
		return nil, err
	}
	if c.Resync == 0 {
		c.Resync = 30 * time.Second
	}
	g := &Controller{parts: parts, metadata: c.Metadata, graph: NewGraph(), ready: make(chan struct{}), absent: newAbsentOwners(500)}
	g.stream = newStream(g)
	g.Loop = loop.New("garbagecollector", parts, g.sync)
	g.Also(func(ctx context.Context) { g.stream.run(ctx, time.Second, c.Resync) })
	g.Also(func(ctx context.Context) { g.watch(ctx, c.Resync) })
	return g, nil
}

func (c *Controller) notify(a Attempts) {
	for _, uid := range a.Delete {
		c.Add(string(uid))
	}
	for _, uid := range a.Orphan {
		c.Add(orphanPrefix + string(uid))
	}
}

func (c *Controller) sync(ctx context.Context, key string) error {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil
	}
	c.gate.RLock()
	defer c.gate.RUnlock()
	if uid, ok := strings.CutPrefix(key, orphanPrefix); ok {
		return c.orphan(ctx, types.UID(uid))
	}
	return c.attempt(ctx, types.UID(key))
}

// watch keeps a monitor for every deletable resource that the stream does not
// cover until ctx ends.
func (c *Controller) watch(ctx context.Context, period time.Duration) {
	select {
	case <-c.stream.settled:
	case <-ctx.Done():
		return
	}
	monitors := map[schema.GroupVersionResource]*monitor{}
	defer func() {
		for _, m := range monitors {
			m.cancel()
		}
		for _, m := range monitors {
			<-m.done
		}
	}()
	ticker := c.parts.Clock.NewTicker(period)
	defer ticker.Stop()
	for {
		c.resync(ctx, monitors)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// ignored are resources whose objects are never collected by reference.
var ignored = map[schema.GroupResource]bool{
	{Resource: "events"}:                         true,
	{Group: "events.k8s.io", Resource: "events"}: true,
}

func (c *Controller) resync(ctx context.Context, monitors map[schema.GroupVersionResource]*monitor) {
	logger := klog.FromContext(ctx)
	client := c.parts.Client.Discovery()
	lists, err := discovery.ServerPreferredResources(client)
	failed, partial := discovery.GroupDiscoveryFailedErrorGroups(err)
	if err != nil && !partial {
		logger.Error(err, "Could not read the list of resources, it is tried again")
		return
	}
	wanted := map[schema.GroupVersionResource]schema.GroupVersionKind{}
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"delete", "list", "watch"}}, lists) {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue
		}
		for _, r := range list.APIResources {
			if !ignored[schema.GroupResource{Group: gv.Group, Resource: r.Name}] {
				wanted[gv.WithResource(r.Name)] = gv.WithKind(r.Kind)
			}
		}
	}
	// What a group that does not answer right now has is still watched.
	for gvr, m := range monitors {
		if _, bad := failed[gvr.GroupVersion()]; bad {
			wanted[gvr] = m.gvk
		}
	}
	if c.mapper.Load() == nil || !maps.Equal(wanted, c.deletable) {
		groups, err := restmapper.GetAPIGroupResources(client)
		if err != nil {
			logger.Error(err, "Could not read the API groups, it is tried again")
			return
		}
		mapper := restmapper.NewDiscoveryRESTMapper(groups)
		c.mapper.Store(&mapper)
		c.deletable = maps.Clone(wanted)
	}
	maps.DeleteFunc(wanted, func(gvr schema.GroupVersionResource, _ schema.GroupVersionKind) bool {
		return c.stream.covers(gvr.GroupResource())
	})
	same := func(gvk schema.GroupVersionKind, m *monitor) bool { return m.gvk == gvk }
	if maps.EqualFunc(wanted, monitors, same) {
		c.first.Do(func() { close(c.ready) })
		return
	}

	c.gate.Lock()
	defer c.gate.Unlock()
	for gvr, m := range monitors {
		if gvk, ok := wanted[gvr]; !ok || gvk != m.gvk {
			m.stop()
			if !c.stream.covers(gvr.GroupResource()) {
				m.forgetAll()
			}
			delete(monitors, gvr)
		}
	}
	var started []*monitor
	for _, gvr := range slices.SortedFunc(maps.Keys(wanted), func(a, b schema.GroupVersionResource) int { return strings.Compare(a.String(), b.String()) }) {
		if monitors[gvr] == nil {
			monitors[gvr] = startMonitor(ctx, c.metadata, c.graph, c.notify, gvr, wanted[gvr])
			started = append(started, monitors[gvr])
		}
	}
	// A resource whose list keeps failing must not stop the others for good.
	limit := c.parts.Clock.NewTimer(30 * time.Second)
	defer limit.Stop()
	for _, m := range started {
		select {
		case <-m.synced:
		case <-ctx.Done():
			return
		case <-limit.C():
			logger.Info("Some resources could not be listed yet, collection goes on without them", "waitingFor", m.gvr)
			c.first.Do(func() { close(c.ready) })
			return
		}
	}
	c.first.Do(func() { close(c.ready) })
}
