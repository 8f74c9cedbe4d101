// Package handlers answers requests for API resources: the one generic path that
// every built-in kind and every custom resource takes.
//
//	decode -> default -> convert to hub -> prepare -> mutate-admit -> validate
//	-> validate-admit -> store -> convert -> encode
//
// A resource is a value (apiserver/resources) that is installed and removed at
// run time. What is not generic (logs, tokens, scale, ...) is a Connector that
// the API server hands in by name.
package handlers

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/admission"
	"skiff/apiserver/resources"
	"skiff/apiserver/store"
)

// Config of an API.
type Config struct {
	// Admission is asked for the chain at each write, so that it can be set once
	// the plugins' informers exist. nil admits everything.
	Admission func() admission.Chain
	// Authorizer decides on what a request may do beyond its verb: a PUT or an
	// apply that creates. nil allows it.
	Authorizer authorizer.Authorizer
	// TypeConverter knows the types' schemas for managed fields. Made at first use.
	TypeConverter func() managedfields.TypeConverter
	// Connectors answer what is not generic.
	Connectors map[resources.Connector]Connector
	// Deprecated is told of requests for deprecated versions; nil is not.
	Deprecated func(gvr schema.GroupVersionResource, subresource string)
	// Watches is told of what watches are sent; nil is not.
	Watches WatchObserver
	// MinRequestTimeout is the least time of a watch without timeoutSeconds; the
	// real one is up to twice that. Default 30 minutes.
	MinRequestTimeout time.Duration
	// StalledWatch is how long a watch's client may take for one event before it
	// is cut off; default 30 s.
	StalledWatch time.Duration
	// MaxBody bounds a request's body; default 3 MiB.
	MaxBody int64
	Log     *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Target is what a request for a resource is about.
type Target struct {
	Resource        *resources.Resource
	Version         *resources.Version
	Subresource     string
	Namespace, Name string
	// Rest is the path behind the subresource, for proxies; it begins with a
	// slash when there is any.
	Rest string
	// Store is nil for virtual resources.
	Store *store.Store

	// Shown is set where a subresource has a kind of its own.
	Shown *Shown

	entry *entry
	// manager is whose the changed fields are where the request's options do not say.
	manager string
	// collected: it is one of a collection that a request deletes.
	collected bool
	// converted are items of a list that were converted together.
	converted map[*store.Item]runtime.Object
}

// GVK is the kind in the request's version.
func (t *Target) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: t.Resource.Group, Version: t.Version.Name, Kind: t.Resource.Kind}
}

// GVR is the resource in the request's version.
func (t *Target) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: t.Resource.Group, Version: t.Version.Name, Resource: t.Resource.Plural}
}

// GR is the resource without version.
func (t *Target) GR() schema.GroupResource { return t.Resource.GroupResource() }

// HubGVK is the kind in the version that is stored.
func (t *Target) HubGVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: t.Resource.Group, Version: t.Resource.Hub, Kind: t.Resource.Kind}
}

// Connector answers requests that are not generic.
type Connector func(w http.ResponseWriter, r *http.Request, t *Target)

// entry is an installed resource.
type entry struct {
	res   *resources.Resource
	store *store.Store

	// managers makes field managers by version and subresource.
	mu       sync.Mutex
	managers map[managerKey]*managedfields.FieldManager
}

// API serves the installed resources.
type API struct {
	cfg   Config
	conv  func() managedfields.TypeConverter
	table atomic.Pointer[map[schema.GroupResource]*entry]
	mu    sync.Mutex // serializes changes of table
	// news is closed and replaced when table changes.
	news chan struct{}
}

// New checks the configuration.
func New(c Config) (*API, error) {
	if c.MinRequestTimeout == 0 {
		c.MinRequestTimeout = 30 * time.Minute
	}
	if c.StalledWatch == 0 {
		c.StalledWatch = 30 * time.Second
	}
	if c.MaxBody == 0 {
		c.MaxBody = 3 << 20
	}
	if c.MaxBody < 0 || c.MinRequestTimeout < 0 || c.StalledWatch < 0 {
		return nil, errors.New("handlers: MaxBody, MinRequestTimeout and StalledWatch must not be negative")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Admission == nil {
		c.Admission = func() admission.Chain { return admission.Chain{} }
	}
	if c.TypeConverter == nil {
		c.TypeConverter = managedfields.NewDeducedTypeConverter
	}
	a := &API{cfg: c, conv: sync.OnceValue(c.TypeConverter), news: make(chan struct{})}
	a.table.Store(&map[schema.GroupResource]*entry{})
	return a, nil
}

// Install serves a resource from now on, or replaces it. s is nil for virtual
// resources.
func (a *API) Install(r *resources.Resource, s *store.Store) error {
	if s == nil && r.Virtual == "" {
		return fmt.Errorf("resource %s: it is not virtual and has no store", r.GroupResource())
	}
	a.change(func(table map[schema.GroupResource]*entry) {
		table[r.GroupResource()] = &entry{res: r, store: s, managers: map[managerKey]*managedfields.FieldManager{}}
	})
	return nil
}

// Remove stops serving a resource.
func (a *API) Remove(gr schema.GroupResource) {
	a.change(func(table map[schema.GroupResource]*entry) { delete(table, gr) })
}

func (a *API) change(edit func(map[schema.GroupResource]*entry)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := *a.table.Load()
	table := make(map[schema.GroupResource]*entry, len(old)+1)
	for gr, e := range old {
		table[gr] = e
	}
	edit(table)
	a.table.Store(&table)
	close(a.news)
	a.news = make(chan struct{})
}

// installed are the resources, and a channel that is closed when others are.
func (a *API) installed() (map[schema.GroupResource]*entry, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return *a.table.Load(), a.news
}

// Lookup finds an installed resource that serves the version.
func (a *API) Lookup(gvr schema.GroupVersionResource) (*Target, bool) {
	e := (*a.table.Load())[gvr.GroupResource()]
	if e == nil {
		return nil, false
	}
	for i := range e.res.Versions {
		if v := &e.res.Versions[i]; v.Name == gvr.Version && !v.Unserved {
			return &Target{Resource: e.res, Version: v, Store: e.store, entry: e}, true
		}
	}
	return nil, false
}

// Hub is the target of a resource in its stored version, for the server's own
// operations on an object.
func (a *API) Hub(gr schema.GroupResource, namespace, name string) (*Target, bool) {
	e := (*a.table.Load())[gr]
	if e == nil {
		return nil, false
	}
	return &Target{Resource: e.res, Version: hubVersion(e.res), Namespace: namespace, Name: name, Store: e.store, entry: e}, true
}

// Count is how many objects are stored of a resource; 0 of one that is not installed.
func (a *API) Count(gr schema.GroupResource) int {
	e := (*a.table.Load())[gr]
	if e == nil || e.store == nil {
		return 0
	}
	return e.store.Count()
}

// Each visits every installed resource, in no order.
func (a *API) Each(visit func(*resources.Resource, *store.Store)) {
	for _, e := range *a.table.Load() {
		visit(e.res, e.store)
	}
}
