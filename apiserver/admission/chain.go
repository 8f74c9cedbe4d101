package admission

import "context"

// Chain runs plugins in order: all mutators, once more when one of them asks
// for it, then all validators. The zero Chain lets everything pass.
type Chain struct {
	// Plugins in upstream's order; each is a Mutator, a Validator or both.
	Plugins []Plugin
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
func (c Chain) Admit(ctx context.Context, a *Attributes) error {
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
		if err := m.Admit(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// Validate runs the validators; the first refusal ends it.
func (c Chain) Validate(ctx context.Context, a *Attributes) error {
	for _, p := range c.Plugins {
		v, ok := p.(Validator)
		if !ok || !p.Handles(a.Operation) {
			continue
		}
		if err := v.Validate(ctx, a); err != nil {
			return err
		}
	}
	return nil
}
