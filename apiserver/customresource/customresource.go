// Package customresource serves the resources that CustomResourceDefinitions
// define: it gives each definition its names and conditions, makes a resource of it
// that the API serves like a built-in one, and takes it away again with all of its
// objects.
//
// One goroutine decides about definitions, in batches, so that a thousand of them
// change what is published a few times only. Others empty resources whose
// definitions are being deleted, which can take as long as finalizers do.
package customresource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	crdinformers "k8s.io/apiextensions-apiserver/pkg/client/informers/externalversions/apiextensions/v1"
	crdlisters "k8s.io/apiextensions-apiserver/pkg/client/listers/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"skiff/apiserver/handlers"
	"skiff/apiserver/resources"
	"skiff/apiserver/store"
	"skiff/apiserver/webhookclient"
)

const (
	// maxBatch is how many definitions are decided on before the outcome is published.
	maxBatch = 100
	// writers is how many statuses are stored at once: the store commits together
	// what comes together.
	writers = 16
)

// Config of a Controller.
type Config struct {
	// Client reaches the server itself, with every right.
	Client crdclient.Interface
	// API serves the resources.
	API *handlers.API
	// NewStore makes the storage of a resource.
	NewStore func(*resources.Resource) (*store.Store, error)
	// Dial reaches conversion webhooks that are services.
	Dial webhookclient.Dial
	// OnChange is called after the set of served resources changed; Served tells it.
	OnChange func()
	Log      *slog.Logger
}

// Controller serves custom resources.
type Controller struct {
	cfg      Config
	informer cache.SharedIndexInformer
	lister   crdlisters.CustomResourceDefinitionLister
	queue    workqueue.TypedRateLimitingInterface[string]
	cleanups workqueue.TypedRateLimitingInterface[string]
	synced   chan struct{}

	// recent are definitions as this controller decided them last, for as long as
	// the informer is behind; unwritten those of them that are not stored yet. Only
	// the deciding goroutine looks at them.
	recent    map[string]*v1.CustomResourceDefinition
	unwritten map[string]bool

	mu     sync.Mutex
	served map[string]*served // by the definition's name
}

// served is a definition that is installed.
type served struct {
	kind        *kind
	res         *resources.Resource
	store       *store.Store
	terminating bool
}

// New checks the configuration.
func New(c Config) (*Controller, error) {
	if c.Client == nil || c.API == nil || c.NewStore == nil || c.OnChange == nil {
		return nil, errors.New("customresource: Client, API, NewStore and OnChange are required")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	inf := crdinformers.NewCustomResourceDefinitionInformer(c.Client, 0, cache.Indexers{})
	k := &Controller{
		cfg: c, informer: inf, lister: crdlisters.NewCustomResourceDefinitionLister(inf.GetIndexer()),
		queue:    workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](20*time.Millisecond, time.Minute)),
		cleanups: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](200*time.Millisecond, time.Minute)),
		synced:   make(chan struct{}), recent: map[string]*v1.CustomResourceDefinition{}, unwritten: map[string]bool{}, served: map[string]*served{},
	}
	if err := inf.SetTransform(k.lean); err != nil {
		return nil, err
	}
	_, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    k.enqueue,
		UpdateFunc: func(_, obj any) { k.enqueue(obj) },
		DeleteFunc: k.enqueue,
	})
	return k, err
}

// lean is a definition without what nobody here reads, and with the specification
// that is served where it is the same one: a schema is large, and there would be
// a copy for every state of its definition.
func (c *Controller) lean(obj any) (any, error) {
	crd, ok := obj.(*v1.CustomResourceDefinition)
	if !ok {
		return obj, nil
	}
	crd.ManagedFields = nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.served[crd.Name]; s != nil && s.kind.crd.UID == crd.UID && s.kind.crd.Generation == crd.Generation {
		crd.Spec = s.kind.crd.Spec
	}
	return crd, nil
}

func (c *Controller) enqueue(obj any) {
	if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
		c.queue.Add(key)
	}
}

// Synced is closed once every definition that there was at the start is served.
func (c *Controller) Synced() <-chan struct{} { return c.synced }

// Lister are the definitions.
func (c *Controller) Lister() crdlisters.CustomResourceDefinitionLister { return c.lister }

// Run serves until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.cleanups.ShutDown()
	defer c.queue.ShutDown()
	wg.Go(func() { c.informer.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), c.informer.HasSynced) {
		return nil
	}
	all, err := c.lister.List(labels.Everything())
	if err != nil {
		return err
	}
	first := make([]string, len(all))
	for i, crd := range all {
		first[i] = crd.Name
	}
	c.batch(ctx, first)
	close(c.synced)
	wg.Go(func() { c.decide(ctx) })
	for range cleaners {
		wg.Go(func() { c.cleanUp(ctx) })
	}
	<-ctx.Done()
	return nil
}

// decide takes definitions off the queue, as many at once as there are.
func (c *Controller) decide(ctx context.Context) {
	for {
		name, done := c.queue.Get()
		if done {
			return
		}
		names := []string{name}
		for c.queue.Len() > 0 && len(names) < maxBatch {
			if name, done = c.queue.Get(); done {
				return
			}
			names = append(names, name)
		}
		for name, err := range c.batch(ctx, names) {
			if err != nil {
				c.cfg.Log.Warn("custom resource definition cannot be served; trying again", "name", name, "err", err)
				c.queue.AddRateLimited(name)
			} else {
				c.queue.Forget(name)
			}
		}
		for _, name := range names {
			c.queue.Done(name)
		}
	}
}

// batch settles definitions, publishes what changed, and then stores what was
// decided: who sees that a definition is established finds it in discovery.
func (c *Controller) batch(ctx context.Context, names []string) map[string]error {
	errs := make(map[string]error, len(names))
	published := true
	for _, name := range names {
		changed, err := c.settle(name)
		errs[name] = err
		if changed {
			published = false
		}
	}
	if !published {
		c.cfg.OnChange()
	}
	var decided []*v1.CustomResourceDefinition
	for _, name := range names {
		if errs[name] == nil {
			c.establish(name)
		}
		if c.unwritten[name] {
			decided = append(decided, c.recent[name])
		}
	}
	for i, err := range c.write(ctx, decided) {
		if err != nil {
			errs[decided[i].Name] = err
		}
	}
	for _, name := range names {
		if crd := c.get(name); crd != nil && !crd.DeletionTimestamp.IsZero() && apihelpers.CRDHasFinalizer(crd, v1.CustomResourceCleanupFinalizer) {
			c.cleanups.Add(name)
		}
	}
	return errs
}

// keep is a status that is decided, and stored at the batch's end.
func (c *Controller) keep(crd *v1.CustomResourceDefinition) {
	c.recent[crd.Name], c.unwritten[crd.Name] = crd, true
}

// forget leaves a definition to what the informer tells of it.
func (c *Controller) forget(name string) {
	delete(c.recent, name)
	delete(c.unwritten, name)
}

// get is a definition, as new as this controller knows it; nil when it is gone.
func (c *Controller) get(name string) *v1.CustomResourceDefinition {
	crd, err := c.lister.Get(name)
	if err != nil {
		c.forget(name)
		return nil
	}
	if own := c.recent[name]; own != nil {
		if own.UID == crd.UID && (newer(own.ResourceVersion, crd.ResourceVersion) || c.unwritten[name] && own.ResourceVersion == crd.ResourceVersion) {
			return own
		}
		c.forget(name)
	}
	return crd
}

func newer(a, b string) bool {
	return len(a) > len(b) || len(a) == len(b) && a > b
}

// withOwnStatus is a copy to write a status to; the rest is the original's.
func withOwnStatus(crd *v1.CustomResourceDefinition) *v1.CustomResourceDefinition {
	out := *crd
	out.Status = *crd.Status.DeepCopy()
	return &out
}

// group are the definitions of a group.
func (c *Controller) group(group string) []*v1.CustomResourceDefinition {
	all, err := c.lister.List(labels.Everything())
	if err != nil {
		return nil
	}
	var out []*v1.CustomResourceDefinition
	for _, crd := range all {
		if crd.Spec.Group == group {
			if crd = c.get(crd.Name); crd != nil {
				out = append(out, crd)
			}
		}
	}
	return out
}

// settle gives a definition its names and installs it. It tells whether what is
// served changed.
func (c *Controller) settle(name string) (changed bool, err error) {
	crd := c.get(name)
	if crd == nil {
		gone := c.remove(name)
		if _, group, ok := cutName(name); ok {
			c.lookAgain(group, name) // its names are free now
		}
		return gone, nil
	}
	next := withOwnStatus(crd)
	differs, renamed := settle(next, func() claimed { return claimedIn(crd.Spec.Group, c.group(crd.Spec.Group)) })
	if differs {
		c.keep(next)
		crd = next
		if renamed {
			c.lookAgain(crd.Spec.Group, name)
		}
	}
	if !apihelpers.IsCRDConditionTrue(crd, v1.NamesAccepted) && !apihelpers.IsCRDConditionTrue(crd, v1.Established) {
		return c.remove(name), nil
	}
	if cond := establishment(crd); cond.Status == v1.ConditionFalse && !apihelpers.IsCRDConditionTrue(crd, v1.Established) {
		if !apihelpers.IsCRDConditionEquivalent(&cond, apihelpers.FindCRDCondition(crd, v1.Established)) {
			next := withOwnStatus(crd)
			apihelpers.SetCRDCondition(next, cond)
			c.keep(next)
		}
		return c.remove(name), nil
	}
	return c.install(crd)
}

func (c *Controller) lookAgain(group, but string) {
	for _, crd := range c.group(group) {
		if crd.Name != but {
			c.queue.Add(crd.Name)
		}
	}
}

// write stores the statuses of definitions, and tells what became of each. Where a
// definition has changed or gone meanwhile, nothing is written: the informer tells
// of that.
func (c *Controller) write(ctx context.Context, decided []*v1.CustomResourceDefinition) []error {
	errs := make([]error, len(decided))
	stored := make([]*v1.CustomResourceDefinition, len(decided))
	client := c.cfg.Client.ApiextensionsV1().CustomResourceDefinitions()
	workqueue.ParallelizeUntil(ctx, writers, len(decided), func(i int) {
		out, err := client.UpdateStatus(ctx, decided[i], metav1.UpdateOptions{})
		switch {
		case err == nil:
			stored[i] = out
		case !apierrors.IsNotFound(err) && !apierrors.IsConflict(err):
			errs[i] = err
		}
	})
	for i, crd := range decided {
		c.forget(crd.Name)
		out := stored[i]
		if out == nil {
			continue
		}
		if out.Generation == crd.Generation {
			out.Spec = crd.Spec
		}
		out.ManagedFields = nil
		c.recent[out.Name] = out
	}
	return errs
}

// establish says of an installed definition that it is.
func (c *Controller) establish(name string) {
	crd := c.get(name)
	if crd == nil || !apihelpers.IsCRDConditionTrue(crd, v1.NamesAccepted) || apihelpers.IsCRDConditionTrue(crd, v1.Established) || !c.serves(name) {
		return
	}
	cond := establishment(crd)
	if apihelpers.IsCRDConditionEquivalent(&cond, apihelpers.FindCRDCondition(crd, v1.Established)) {
		return
	}
	next := withOwnStatus(crd)
	apihelpers.SetCRDCondition(next, cond)
	c.keep(next)
}

func (c *Controller) serves(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served[name] != nil
}

// overlaps tells whether a built-in resource has the definition's name.
func (c *Controller) overlaps(gr schema.GroupResource) bool {
	t, ok := c.cfg.API.Hub(gr, "", "")
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.served {
		if s.res == t.Resource {
			return false
		}
	}
	return true
}

// install serves a definition, or serves it anew where it changed.
func (c *Controller) install(crd *v1.CustomResourceDefinition) (changed bool, err error) {
	c.mu.Lock()
	have := c.served[crd.Name]
	c.mu.Unlock()
	terminating := apihelpers.IsCRDConditionTrue(crd, v1.Terminating)
	same := have != nil && have.kind.crd.UID == crd.UID && equality.Semantic.DeepEqual(have.kind.crd.Spec, crd.Spec) &&
		namesEqual(have.kind.crd.Status.AcceptedNames, crd.Status.AcceptedNames) && sameStored(have.kind.crd, crd)
	if same && have.terminating == terminating {
		return false, nil
	}
	gr := schema.GroupResource{Group: crd.Spec.Group, Resource: crd.Status.AcceptedNames.Plural}
	if have == nil && c.overlaps(gr) {
		return false, nil
	}
	next := &served{terminating: terminating}
	if same {
		next.kind, next.store = have.kind, have.store
		next.res = next.kind.resource(terminating)
	} else {
		if next.kind, err = newKind(crd, c.cfg.Dial); err != nil {
			return false, err
		}
		next.res = next.kind.resource(terminating)
		if next.store, err = c.cfg.NewStore(next.res); err != nil {
			return false, fmt.Errorf("custom resource definition %s: %w", crd.Name, err)
		}
	}
	if err := c.cfg.API.Install(next.res, next.store); err != nil {
		return false, err
	}
	c.mu.Lock()
	c.served[crd.Name] = next
	c.mu.Unlock()
	if have != nil && !same {
		have.close()
	}
	return true, nil
}

// remove stops serving a definition.
func (c *Controller) remove(name string) bool {
	c.mu.Lock()
	have := c.served[name]
	delete(c.served, name)
	c.mu.Unlock()
	if have == nil {
		return false
	}
	c.cfg.API.Remove(have.res.GroupResource())
	have.close()
	return true
}

func (s *served) close() {
	s.store.Close()
	if w, ok := s.kind.convert.(*webhook); ok {
		w.close()
	}
}
