package admission

import (
	"context"
	"time"
)

// Chain runs plugins in order: all mutators, once more when one of them asks
// for it, then all validators. The zero Chain lets everything pass.
type Chain struct {
	// Plugins in upstream's order; each is a Mutator, a Validator or both.
	Plugins []Plugin
	// Observer is told how long it takes; nil is not.
	Observer Observer
}

// NewChain is a chain of plugins.
func NewChain(plugins ...Plugin) Chain { return Chain{Plugins: plugins} }

// Handles tells whether any plugin looks at op.
func (c Chain) Handles(op Operation) bool {
	for _, p := range c.Plugins {
		if p.Handles(op) {
			return true
		}
	}
	return false
}

// Admit runs the mutators. When one of them requested it, all run a second
// time with Reinvocation.Pass 1; there is no third.
func (c Chain) Admit(ctx context.Context, a *Attributes) (err error) {
	defer c.step(PhaseAdmit, a.Operation, &err)()
	a.Observer = c.Observer
	a.Reinvocation.Pass, a.Reinvocation.Requested = 0, false
	if err := c.admitOnce(ctx, a); err != nil {
		return err
	}
	if !a.Reinvocation.Requested {
		return nil
	}
	a.Reinvocation.Pass = 1
	return c.admitOnce(ctx, a)
}

func (c Chain) admitOnce(ctx context.Context, a *Attributes) error {
	for _, p := range c.Plugins {
		m, ok := p.(Mutator)
		if !ok || !p.Handles(a.Operation) {
			continue
		}
		if err := c.one(p, PhaseAdmit, a, func() error { return m.Admit(ctx, a) }); err != nil {
			return err
		}
	}
	return nil
}

// Validate runs the validators; the first refusal ends it.
func (c Chain) Validate(ctx context.Context, a *Attributes) (err error) {
	a.Observer = c.Observer
	defer c.step(PhaseValidate, a.Operation, &err)()
	for _, p := range c.Plugins {
		v, ok := p.(Validator)
		if !ok || !p.Handles(a.Operation) {
			continue
		}
		if err := c.one(p, PhaseValidate, a, func() error { return v.Validate(ctx, a) }); err != nil {
			return err
		}
	}
	return nil
}

// step observes a phase; the result ends it.
func (c Chain) step(phase Phase, op Operation, err *error) func() {
	if c.Observer == nil {
		return func() {}
	}
	start := time.Now()
	return func() { c.Observer.Step(phase, op, time.Since(start), *err != nil) }
}

// one runs and observes a plugin.
func (c Chain) one(p Plugin, phase Phase, a *Attributes, run func() error) error {
	if c.Observer == nil {
		return run()
	}
	start := time.Now()
	err := run()
	c.Observer.Plugin(p.Name(), phase, a.Operation, time.Since(start), err != nil)
	return err
}
