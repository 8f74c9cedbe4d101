// Package objects keeps the ConfigMaps and Secrets that pods of the node use
// current, by one watch per object: a node may not list them all. An object
// is watched as long as a pod refers to it.
package objects

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// syncTimeout bounds the wait for the first answer about an object.
const syncTimeout = 10 * time.Second

type key struct{ kind, namespace, name string }

// Cache holds the objects.
type Cache struct {
	client kubernetes.Interface
	// changed is told of the pods that use an object that changed.
	changed func(types.UID)

	mu      sync.Mutex // guards what follows
	entries map[key]*entry
	pods    map[types.UID]map[key]bool
	base    context.Context
	wg      sync.WaitGroup
}

type entry struct {
	users  map[types.UID]bool
	cancel context.CancelFunc
	synced chan struct{}
	once   sync.Once
	object runtime.Object // guarded by Cache.mu
}

// New returns a cache; changed must not block.
func New(client kubernetes.Interface, changed func(types.UID)) *Cache {
	return &Cache{client: client, changed: changed, entries: map[key]*entry{}, pods: map[types.UID]map[key]bool{}}
}

// Run keeps the watches until the context ends.
func (c *Cache) Run(ctx context.Context) error {
	c.mu.Lock()
	c.base = ctx
	for k, e := range c.entries {
		c.start(k, e)
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	for _, e := range c.entries {
		if e.cancel != nil {
			e.cancel()
		}
	}
	c.base = nil
	c.mu.Unlock()
	c.wg.Wait()
	return nil
}

// Register notes what the pod refers to; what it no longer does is let go.
func (c *Cache) Register(pod *v1.Pod) {
	want := references(pod)
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.pods[pod.UID] {
		if !want[k] {
			c.release(pod.UID, k)
		}
	}
	for k := range want {
		e := c.entries[k]
		if e == nil {
			e = &entry{users: map[types.UID]bool{}, synced: make(chan struct{})}
			c.entries[k] = e
			if c.base != nil {
				c.start(k, e)
			}
		}
		e.users[pod.UID] = true
	}
	c.pods[pod.UID] = want
}

// Unregister lets go of everything the pod referred to.
func (c *Cache) Unregister(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.pods[uid] {
		c.release(uid, k)
	}
	delete(c.pods, uid)
}

// release drops one use. Caller holds mu.
func (c *Cache) release(uid types.UID, k key) {
	e := c.entries[k]
	if e == nil {
		return
	}
	delete(e.users, uid)
	if len(e.users) == 0 {
		if e.cancel != nil {
			e.cancel()
		}
		delete(c.entries, k)
	}
}

// start begins the watch of an object. Caller holds mu and base is set.
func (c *Cache) start(k key, e *entry) {
	ctx, cancel := context.WithCancel(c.base)
	e.cancel = cancel
	store := &sink{cache: c, key: k, entry: e}
	reflector := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(c.listWatch(k), c.client), expected(k.kind), store, cache.ReflectorOptions{Name: "kubelet " + k.kind + " " + k.namespace + "/" + k.name})
	c.wg.Go(func() { reflector.RunWithContext(ctx) })
}

func expected(kind string) runtime.Object {
	if kind == "secret" {
		return &v1.Secret{}
	}
	return &v1.ConfigMap{}
}

func (c *Cache) listWatch(k key) *cache.ListWatch {
	selector := fields.OneTermEqualSelector("metadata.name", k.name).String()
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			if k.kind == "secret" {
				return c.client.CoreV1().Secrets(k.namespace).List(ctx, o)
			}
			return c.client.CoreV1().ConfigMaps(k.namespace).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			if k.kind == "secret" {
				return c.client.CoreV1().Secrets(k.namespace).Watch(ctx, o)
			}
			return c.client.CoreV1().ConfigMaps(k.namespace).Watch(ctx, o)
		},
	}
}

// ConfigMap returns a ConfigMap, which the caller must not change.
func (c *Cache) ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error) {
	obj, watched, err := c.get(ctx, key{"configmap", namespace, name})
	if err != nil {
		return nil, err
	}
	if !watched {
		return c.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	return obj.(*v1.ConfigMap), nil
}

// Secret returns a Secret, which the caller must not change.
func (c *Cache) Secret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	obj, watched, err := c.get(ctx, key{"secret", namespace, name})
	if err != nil {
		return nil, err
	}
	if !watched {
		return c.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	return obj.(*v1.Secret), nil
}

func (c *Cache) get(ctx context.Context, k key) (runtime.Object, bool, error) {
	c.mu.Lock()
	e := c.entries[k]
	running := c.base != nil
	c.mu.Unlock()
	if e == nil || !running {
		return nil, false, nil
	}
	timer := time.NewTimer(syncTimeout)
	defer timer.Stop()
	select {
	case <-e.synced:
	case <-ctx.Done():
		return nil, true, ctx.Err()
	case <-timer.C:
		return nil, true, fmt.Errorf("failed to sync %s cache: timed out waiting for the condition", k.kind)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.object == nil {
		return nil, true, apierrors.NewNotFound(schema.GroupResource{Resource: k.kind}, k.name)
	}
	return e.object, true, nil
}

// set stores what a watch said and tells the pods.
func (c *Cache) set(e *entry, obj runtime.Object) {
	c.mu.Lock()
	first := e.object == nil && obj == nil
	e.object = obj
	var users []types.UID
	for uid := range e.users {
		users = append(users, uid)
	}
	c.mu.Unlock()
	synced := true
	e.once.Do(func() { close(e.synced); synced = false })
	if !synced || first {
		// Whoever waits for the first answer gets it without being told.
		return
	}
	for _, uid := range users {
		c.changed(uid)
	}
}

// sink is the reflector's store.
type sink struct {
	cache *Cache
	key   key
	entry *entry
}

func (s *sink) Add(obj any) error    { s.cache.set(s.entry, obj.(runtime.Object)); return nil }
func (s *sink) Update(obj any) error { return s.Add(obj) }
func (s *sink) Delete(any) error     { s.cache.set(s.entry, nil); return nil }
func (s *sink) Resync() error        { return nil }

func (s *sink) Replace(items []any, _ string) error {
	if len(items) == 0 {
		s.cache.set(s.entry, nil)
		return nil
	}
	return s.Add(items[0])
}
