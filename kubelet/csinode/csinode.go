// Package csinode tells the cluster which CSI drivers a node has: in its
// CSINode object, and in labels of the node that say where it is.
package csinode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

// Config configures a Manager.
type Config struct {
	Client kubernetes.Interface
	Name   string
}

// Manager keeps the node's CSINode.
type Manager struct {
	client kubernetes.Interface
	name   string
	poke   chan struct{}

	mu      sync.Mutex // guards what follows
	drivers map[string]Driver
	gone    map[string]bool
	// asked counts changes, told those that the API server has.
	asked, told int
	refused     map[string]error
	// changed is closed and replaced when told or refused change.
	changed chan struct{}
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.Name == "" {
		return nil, errors.New("csinode: Client and Name are required")
	}
	return &Manager{
		client: cfg.Client, name: cfg.Name, poke: make(chan struct{}, 1),
		drivers: map[string]Driver{}, gone: map[string]bool{}, refused: map[string]error{}, changed: make(chan struct{}),
	}, nil
}

// Set publishes a driver, and returns when the API server knows of it, or
// refused it.
func (m *Manager) Set(ctx context.Context, name string, d Driver) error {
	m.mu.Lock()
	m.drivers[name] = d
	delete(m.gone, name)
	delete(m.refused, name)
	m.asked++
	mine := m.asked
	m.mu.Unlock()
	m.Poke()
	for {
		m.mu.Lock()
		told, refused, changed := m.told, m.refused[name], m.changed
		m.mu.Unlock()
		if refused != nil {
			return refused
		}
		if told >= mine {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Remove takes a driver out, in its own time.
func (m *Manager) Remove(name string) {
	m.mu.Lock()
	delete(m.drivers, name)
	delete(m.refused, name)
	m.gone[name] = true
	m.asked++
	m.mu.Unlock()
	m.Poke()
}

// Poke makes the objects be looked at now.
func (m *Manager) Poke() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// Run keeps the object until the context ends. It makes one without drivers
// at first: the scheduler tells from it that the node has none.
func (m *Manager) Run(ctx context.Context) error {
	backoff := 50 * time.Millisecond
	for {
		var again <-chan time.Time
		if err := m.reconcile(ctx); err != nil {
			if ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				klog.FromContext(ctx).Info("Publishing the node's CSI drivers failed, will try again", "err", err)
			}
			again, backoff = time.After(backoff), min(2*backoff, 5*time.Second)
		} else {
			backoff = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.poke:
		case <-again:
		}
	}
}

// reconcile brings the API server's objects up to date.
func (m *Manager) reconcile(ctx context.Context) error {
	m.mu.Lock()
	drivers, gone, asked := maps.Clone(m.drivers), maps.Clone(m.gone), m.asked
	m.mu.Unlock()
	node, err := m.client.CoreV1().Nodes().Get(ctx, m.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	add, refused := topology(node.Labels, drivers)
	for name := range refused {
		delete(drivers, name)
	}
	if err := m.label(ctx, add); err != nil {
		m.answer(drivers, refused, asked, err)
		return err
	}
	err = m.write(ctx, node, drivers, gone)
	m.answer(drivers, refused, asked, err)
	return err
}

func (m *Manager) label(ctx context.Context, add map[string]string) error {
	if len(add) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": add}})
	if err != nil {
		return err
	}
	if _, err := m.client.CoreV1().Nodes().Patch(ctx, m.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("label node %s with its topology: %w", m.name, err)
	}
	return nil
}

func (m *Manager) write(ctx context.Context, node *v1.Node, drivers map[string]Driver, gone map[string]bool) error {
	objects := m.client.StorageV1().CSINodes()
	have, err := objects.Get(ctx, m.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		var next *storagev1.CSINode
		next, _ = merge(nil, node, drivers, gone)
		_, err = objects.Create(ctx, next, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	next, changed := merge(have, node, drivers, gone)
	if !changed {
		return nil
	}
	_, err = objects.Update(ctx, next, metav1.UpdateOptions{})
	return err
}

// answer tells those who wait in Set. What the API server will not take
// however often it is asked is an answer too.
func (m *Manager) answer(drivers map[string]Driver, refused map[string]error, asked int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.Copy(m.refused, refused)
	switch {
	case err == nil:
		m.told = asked
	case apierrors.IsInvalid(err) || apierrors.IsForbidden(err):
		for name := range drivers {
			m.refused[name] = err
		}
	}
	close(m.changed)
	m.changed = make(chan struct{})
}
