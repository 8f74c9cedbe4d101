package apiserver

import (
	"context"
	"fmt"
	"sync"

	crdclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"skiff/apiserver/aggregate"
	"skiff/apiserver/customresource"
	"skiff/apiserver/discovery"
	"skiff/apiserver/resources"
	"skiff/apiserver/servicedial"
	"skiff/apiserver/store"
)

// extensions are what is served beside the built-in resources.
type extensions struct {
	builtin   []discovery.Served
	custom    *customresource.Controller
	aggregate *aggregate.Aggregator

	mu sync.Mutex // one publication at a time
}

// extend makes the parts that serve what users define.
func (s *Server) extend(loopback *rest.Config) error {
	client, err := crdclient.NewForConfig(loopback)
	if err != nil {
		return fmt.Errorf("apiserver: %w", err)
	}
	services := servicedial.New(s.core.Informers)
	s.extensions.custom, err = customresource.New(customresource.Config{
		Client: client, API: s.api, NewStore: s.customStore, Dial: services.Dial, OnChange: s.publish, Log: s.cfg.Log,
	})
	if err != nil {
		return err
	}
	others, err := aggregatorclient.NewForConfig(loopback)
	if err != nil {
		return fmt.Errorf("apiserver: %w", err)
	}
	s.extensions.aggregate, err = aggregate.New(aggregate.Config{
		Client: others, Informers: s.core.Informers, ClientCertificate: s.cfg.ProxyClientCertificate,
		OnChange: s.publish, OnDocument: s.openapi.SetExtra, Log: s.cfg.Log,
		OnDocumentV2: func(path string, doc []byte) {
			if err := s.openapi.SetExtraV2(path, doc); err != nil {
				s.cfg.Log.Warn("the OpenAPI v2 document of another server is left out", "err", err)
			}
		},
	})
	if err != nil {
		return err
	}
	s.publish()
	return nil
}

// customStore is the storage of a custom resource.
func (s *Server) customStore(r *resources.Resource) (*store.Store, error) {
	c := store.Config{Kine: s.cfg.Store, Feed: s.feed, Resource: r}
	if s.cfg.Transformer != nil {
		c.Transformer = s.cfg.Transformer(r.Group, r.Plural)
	}
	return store.New(c)
}

// publish tells discovery and OpenAPI what is served now.
func (s *Server) publish() {
	e := &s.extensions
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.aggregate == nil {
		return
	}
	served := append([]discovery.Served(nil), e.builtin...)
	for _, c := range e.custom.Served() {
		served = append(served, discovery.Served(c))
	}
	s.openapi.SetCustom(e.custom.OpenAPI())
	// What another server has taken over is not ours to tell of.
	var local []aggregate.Local
	seen := map[schema.GroupVersion]bool{}
	for i := range served {
		r := served[i].Resource
		var own []string
		for _, v := range served[i].Versions {
			gv := schema.GroupVersion{Group: r.Group, Version: v}
			if e.aggregate.Remote(gv) {
				continue
			}
			own = append(own, v)
			if !seen[gv] {
				seen[gv] = true
				local = append(local, aggregate.Local{GroupVersion: gv, Custom: i >= len(e.builtin)})
			}
		}
		served[i].Versions = own
	}
	s.discovery.Set(served, e.aggregate.External())
	e.aggregate.SetLocal(local)
}

// extended waits until what users had defined before the start is served.
func (s *Server) extended(ctx context.Context) {
	select {
	case <-s.extensions.custom.Synced():
	case <-ctx.Done():
	}
}
