package csi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"skiff/kubelet/pluginwatch"
)

var _ pluginwatch.Handler = (*Plugin)(nil)

// Validate implements pluginwatch.Handler: the driver has to speak CSI 1.
func (p *Plugin) Validate(info pluginwatch.Info) error {
	if len(info.Versions) == 0 {
		return fmt.Errorf("kubernetes.io/csi: CSI driver %s tells no supported version", info.Name)
	}
	for _, v := range info.Versions {
		major, _, _ := strings.Cut(strings.TrimPrefix(v, "v"), ".")
		if major == "1" {
			return nil
		}
	}
	return fmt.Errorf("kubernetes.io/csi: none of the CSI versions reported by this driver are supported: %s", strings.Join(info.Versions, ", "))
}

// Register implements pluginwatch.Handler. Volumes can be mounted as soon as
// the driver has answered, also while the API server is away.
func (p *Plugin) Register(ctx context.Context, info pluginwatch.Info) error {
	d, err := open(ctx, info)
	if err != nil {
		return err
	}
	self, err := d.self(ctx)
	if err != nil {
		return errors.Join(err, d.conn.Close())
	}
	d.asked = time.Now()
	p.mu.Lock()
	old := p.drivers[info.Name]
	p.drivers[info.Name] = d
	close(p.registered)
	p.registered = make(chan struct{})
	p.mu.Unlock()
	if old != nil {
		_ = old.conn.Close() // what it was asked fails, and is asked again
	}
	return p.cfg.Nodes.Set(ctx, info.Name, self)
}

// Deregister implements pluginwatch.Handler. One that registered through
// another socket meanwhile stays.
func (p *Plugin) Deregister(info pluginwatch.Info) {
	p.mu.Lock()
	d := p.drivers[info.Name]
	if d == nil || d.info.Socket != info.Socket {
		p.mu.Unlock()
		return
	}
	delete(p.drivers, info.Name)
	p.mu.Unlock()
	_ = d.conn.Close()
	p.cfg.Nodes.Remove(info.Name)
}

// patience is how long after the start a driver is waited for: those that were
// there before register again within this time.
const patience = 10 * time.Second

// driver gives a registered driver.
func (p *Plugin) driver(ctx context.Context, name string) (*driver, error) {
	timer := time.NewTimer(time.Until(p.started.Add(patience)))
	defer timer.Stop()
	for {
		p.mu.Lock()
		d, registered := p.drivers[name], p.registered
		p.mu.Unlock()
		if d != nil {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-registered:
		case <-timer.C:
			return nil, fmt.Errorf("driver name %s not found in the list of registered CSI drivers", name)
		}
	}
}

// Run asks drivers again how many volumes the node can have, as often as
// their CSIDriver objects wish.
func (p *Plugin) Run(ctx context.Context) error {
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			defer p.mu.Unlock()
			for name, d := range p.drivers {
				_ = d.conn.Close()
				delete(p.drivers, name)
			}
			return nil
		case now := <-ticker.C:
			p.refresh(ctx, now)
		}
	}
}

func (p *Plugin) refresh(ctx context.Context, now time.Time) {
	p.mu.Lock()
	var due []*driver
	for name, d := range p.drivers {
		object, err := p.cfg.Drivers.Get(name)
		if err != nil || object.Spec.NodeAllocatableUpdatePeriodSeconds == nil {
			continue
		}
		if period := time.Duration(*object.Spec.NodeAllocatableUpdatePeriodSeconds) * time.Second; now.Sub(d.asked) >= period {
			d.asked = now
			due = append(due, d)
		}
	}
	p.mu.Unlock()
	for _, d := range due {
		self, err := d.self(ctx)
		if err == nil {
			err = p.cfg.Nodes.Set(ctx, d.info.Name, self)
		}
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Info("Asking a CSI driver for its limits failed, will try again", "driver", d.info.Name, "err", err)
		}
	}
}
