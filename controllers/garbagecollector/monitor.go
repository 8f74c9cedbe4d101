package garbagecollector

import (
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

// monitor watches one resource's metadata. The graph is the only store: what
// the collector does not need of an object is dropped at once.
type monitor struct {
	gvr    schema.GroupVersionResource
	gvk    schema.GroupVersionKind
	graph  *Graph
	notify func(Attempts)

	cancel context.CancelFunc
	done   chan struct{}

	once   sync.Once
	synced chan struct{}
}

func startMonitor(ctx context.Context, client metadata.Interface, graph *Graph, notify func(Attempts), gvr schema.GroupVersionResource, gvk schema.GroupVersionKind) *monitor {
	ctx, cancel := context.WithCancel(ctx)
	m := &monitor{gvr: gvr, gvk: gvk, graph: graph, notify: notify, cancel: cancel, done: make(chan struct{}), synced: make(chan struct{})}
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return client.Resource(gvr).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Resource(gvr).Watch(ctx, o)
		},
	}, &metav1.PartialObjectMetadata{}, m, cache.ReflectorOptions{Name: "garbagecollector " + gvr.String(), TypeDescription: gvr.String()})
	go func() {
		defer close(m.done)
		reflector.RunWithContext(ctx)
	}()
	return m
}

// stop ends the watch and forgets the resource's objects.
func (m *monitor) stop() {
	m.cancel()
	<-m.done
}

func (m *monitor) forgetAll() {
	for _, uid := range m.graph.Of(m.gvr) {
		m.notify(m.graph.Forget(uid))
	}
}

func (m *monitor) object(obj any) (*metav1.PartialObjectMetadata, error) {
	o, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil, fmt.Errorf("garbagecollector: watch of %s gave a %T", m.gvr, obj)
	}
	return o, nil
}

// Add is called for each new object.
func (m *monitor) Add(obj any) error { return m.Update(obj) }

// Update is called for each changed object.
func (m *monitor) Update(obj any) error {
	o, err := m.object(obj)
	if err != nil {
		return err
	}
	m.notify(m.graph.Observe(m.gvr, m.gvk, o))
	return nil
}

// Delete is called for each object that went.
func (m *monitor) Delete(obj any) error {
	o, err := m.object(obj)
	if err != nil {
		return err
	}
	m.notify(m.graph.Forget(o.UID))
	return nil
}

// Replace is called with a whole list.
func (m *monitor) Replace(objs []any, _ string) error {
	seen := make(map[types.UID]bool, len(objs))
	for _, obj := range objs {
		o, err := m.object(obj)
		if err != nil {
			return err
		}
		seen[o.UID] = true
		m.notify(m.graph.Observe(m.gvr, m.gvk, o))
	}
	for _, uid := range m.graph.Of(m.gvr) {
		if !seen[uid] {
			m.notify(m.graph.Forget(uid))
		}
	}
	m.once.Do(func() { close(m.synced) })
	return nil
}

// Resync has nothing to do.
func (m *monitor) Resync() error { return nil }
