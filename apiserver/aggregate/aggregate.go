// Package aggregate makes servers of others part of this one: it keeps APIService
// objects for what is served here, hands requests for the other group versions on to
// the services behind them, and tells discovery of both.
package aggregate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	v1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1/helper"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	aggregatorinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions/apiregistration/v1"
	aggregatorlisters "k8s.io/kube-aggregator/pkg/client/listers/apiregistration/v1"

	"skiff/apiserver/servicedial"
)

const (
	workers = 4
	// checkEvery is how often a server that is part of this one is looked at, though
	// nothing says that it changed.
	checkEvery = 30 * time.Second
)

// Config of an Aggregator.
type Config struct {
	// Client reaches the server itself, with every right.
	Client aggregatorclient.Interface
	// Informers know services and their endpoints.
	Informers informers.SharedInformerFactory
	// ClientCertificate is what other servers know this one by; nil presents none.
	ClientCertificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
	// OnChange is called after what other servers serve changed; External tells it.
	OnChange func()
	// OnDocument gets the OpenAPI v3 document of a group version of another server;
	// nil when it has gone.
	OnDocument func(path string, doc []byte)
	// OnDocumentV2 gets the OpenAPI v2 document of the server of a group version,
	// which may describe others too; nil when it has gone.
	OnDocumentV2 func(path string, doc []byte)
	Log          *slog.Logger
}

// Aggregator makes servers of others part of this one.
type Aggregator struct {
	cfg      Config
	services *servicedial.Dialer
	informer cache.SharedIndexInformer
	lister   aggregatorlisters.APIServiceLister
	queue    workqueue.TypedRateLimitingInterface[string]

	routes atomic.Pointer[map[schema.GroupVersion]*route]

	mu sync.Mutex
	// local is what this server serves, by the name of its APIService.
	local map[string]*v1.APIService
	// settled are those of local that have been seen to once.
	settled map[string]bool
	// atStart are the APIServices that there were before this server.
	atStart map[string]bool
	found   map[schema.GroupVersion]*found
}

// New checks the configuration.
func New(c Config) (*Aggregator, error) {
	if c.Client == nil || c.Informers == nil || c.OnChange == nil || c.OnDocument == nil || c.OnDocumentV2 == nil {
		return nil, errors.New("aggregate: Client, Informers, OnChange, OnDocument and OnDocumentV2 are required")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	inf := aggregatorinformers.NewAPIServiceInformer(c.Client, 0, cache.Indexers{})
	a := &Aggregator{
		cfg: c, services: servicedial.New(c.Informers), informer: inf, lister: aggregatorlisters.NewAPIServiceLister(inf.GetIndexer()),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, checkEvery)),
		local: map[string]*v1.APIService{}, settled: map[string]bool{}, atStart: map[string]bool{}, found: map[schema.GroupVersion]*found{},
	}
	a.routes.Store(&map[schema.GroupVersion]*route{})
	_, err1 := inf.AddEventHandler(handler(a.changed))
	_, err2 := c.Informers.Core().V1().Services().Informer().AddEventHandler(handler(func(obj any) {
		if m, ok := obj.(metav1.Object); ok {
			a.lookAgain(m.GetNamespace(), m.GetName())
		}
	}))
	_, err3 := c.Informers.Discovery().V1().EndpointSlices().Informer().AddEventHandler(handler(func(obj any) {
		if m, ok := obj.(metav1.Object); ok {
			a.lookAgain(m.GetNamespace(), m.GetLabels()[discoveryv1.LabelServiceName])
		}
	}))
	return a, errors.Join(err1, err2, err3)
}

func handler(f func(any)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{AddFunc: f, UpdateFunc: func(_, obj any) { f(obj) }, DeleteFunc: func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		f(obj)
	}}
}

// changed takes a changed APIService: its route first, so that requests follow.
func (a *Aggregator) changed(obj any) {
	s, ok := obj.(*v1.APIService)
	if !ok {
		return
	}
	a.reroute(s.Name)
	a.queue.Add(s.Name)
}

// lookAgain checks the servers behind a service.
func (a *Aggregator) lookAgain(namespace, service string) {
	for _, r := range *a.routes.Load() {
		if r.service.Namespace == namespace && r.service.Name == service {
			a.queue.Add(r.name)
		}
	}
}

// Run keeps the APIServices until ctx ends.
func (a *Aggregator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer a.queue.ShutDown()
	wg.Go(func() { a.informer.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), a.informer.HasSynced) {
		return nil
	}
	all, err := a.lister.List(labels.Everything())
	if err != nil {
		return err
	}
	a.mu.Lock()
	for _, s := range all {
		a.atStart[s.Name] = true
	}
	a.mu.Unlock()
	for range workers {
		wg.Go(func() { a.work(ctx) })
	}
	<-ctx.Done()
	return nil
}

func (a *Aggregator) work(ctx context.Context) {
	for {
		name, done := a.queue.Get()
		if done {
			return
		}
		err := a.sync(ctx, name)
		switch {
		case err == nil:
			a.queue.Forget(name)
		case ctx.Err() == nil:
			a.cfg.Log.Debug("APIService is not available", "name", name, "err", err)
			a.queue.AddRateLimited(name)
		}
		a.queue.Done(name)
	}
}

// sync sees to one APIService: that there is one for what is served here, and that
// its condition says whether it answers.
func (a *Aggregator) sync(ctx context.Context, name string) error {
	if err := a.register(ctx, name); err != nil {
		return err
	}
	s, err := a.lister.Get(name)
	if err != nil {
		return nil // it has gone: its event has taken the route away
	}
	if s.Spec.Service == nil {
		return a.say(ctx, s, helper.NewLocalAvailableAPIServiceCondition())
	}
	cond, err := a.check(ctx, s)
	if ctx.Err() != nil {
		return nil
	}
	if werr := a.say(ctx, s, cond); werr != nil {
		return werr
	}
	if err != nil {
		return err
	}
	a.queue.AddAfter(name, checkEvery)
	return nil
}

// say writes a condition where it is new.
func (a *Aggregator) say(ctx context.Context, s *v1.APIService, cond v1.APIServiceCondition) error {
	old := helper.GetAPIServiceConditionByType(s, cond.Type)
	if old != nil && old.Status == cond.Status && old.Reason == cond.Reason && old.Message == cond.Message {
		return nil
	}
	cond.LastTransitionTime = metav1.Now()
	next := s.DeepCopy()
	helper.SetAPIServiceCondition(next, cond)
	_, err := a.cfg.Client.ApiregistrationV1().APIServices().UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // the change that was quicker brings it here again
	}
	if err != nil {
		return fmt.Errorf("status of APIService %s: %w", s.Name, err)
	}
	return nil
}
