// Package controllers runs the controllers of kube-controller-manager: each
// brings one kind of object to its wished state, in a package of its own.
package controllers

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"skiff/controllers/loop"
)

// Manager runs the chosen controllers.
type Manager struct {
	config    Config
	material  material
	client    kubernetes.Interface
	informers informers.SharedInformerFactory
	chosen    []entry
}

// New checks the configuration. Every controller is made once, so that a
// mistake shows before anything runs.
func New(c Config) (*Manager, error) {
	c, m, err := c.complete()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(access(c, ""))
	if err != nil {
		return nil, fmt.Errorf("controllers: %w", err)
	}
	manager := &Manager{config: c, material: m, client: client, informers: c.Informers}
	if manager.informers == nil {
		manager.informers = informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim))
	}
	for _, e := range list() {
		if e.chosen(c.Controllers) && (e.when == nil || e.when(c)) {
			manager.chosen = append(manager.chosen, e)
		}
	}
	if _, err := manager.build(record.NewBroadcaster()); err != nil {
		return nil, err
	}
	return manager, nil
}

// access lifts the client's own rate limit: the server bounds its callers.
func access(c Config, name string) *rest.Config {
	config := rest.CopyConfig(c.RESTFor(name))
	if config.QPS == 0 {
		config.QPS = -1
	}
	return config
}

// Names lists the controllers that Run starts.
func (m *Manager) Names() []string {
	names := make([]string, len(m.chosen))
	for i, e := range m.chosen {
		names[i] = e.name
	}
	return names
}

type runner interface{ Run(context.Context) error }

type named struct {
	name string
	runner
}

// parts is what an entry builds its controller from.
type parts struct {
	loop.Parts
	config   Config
	material material
	rest     *rest.Config
}

func (p parts) metadata() (metadata.Interface, error) {
	return metadata.NewForConfig(metadata.ConfigFor(p.rest))
}

func (m *Manager) build(events record.EventBroadcaster) ([]named, error) {
	var out []named
	var errs []error
	for _, e := range m.chosen {
		config := access(m.config, e.identity)
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			errs = append(errs, fmt.Errorf("controllers: %s: %w", e.name, err))
			continue
		}
		r, err := e.build(parts{
			Parts: loop.Parts{
				Client: client, Informers: m.informers, Clock: m.config.Clock,
				Events: events.NewRecorder(scheme.Scheme, v1.EventSource{Component: e.source}),
			},
			config: m.config, material: m.material, rest: config,
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, named{e.name, r})
	}
	return out, errors.Join(errs...)
}

// Run blocks until ctx ends and everything that it started has returned.
func (m *Manager) Run(ctx context.Context) error {
	m.informers.StartWithContext(ctx)
	if m.config.Informers == nil {
		defer m.informers.Shutdown()
	}
	if m.config.LeaderElect {
		return m.elect(ctx)
	}
	return m.run(ctx)
}

// run makes the controllers anew, so that nothing is left of an earlier term.
func (m *Manager) run(ctx context.Context) error {
	events := record.NewBroadcaster(record.WithContext(ctx))
	defer events.Shutdown()
	sink := events.StartRecordingToSink(&typed.EventSinkImpl{Interface: m.client.CoreV1().Events("")})
	defer sink.Stop()
	all, err := m.build(events)
	if err != nil {
		return err
	}
	m.informers.StartWithContext(ctx)
	klog.FromContext(ctx).V(1).Info("Starting controllers", "count", len(all))
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range all {
		group.Go(func() error {
			if err := c.Run(ctx); err != nil {
				return fmt.Errorf("controllers: %s: %w", c.name, err)
			}
			return nil
		})
	}
	return group.Wait()
}
