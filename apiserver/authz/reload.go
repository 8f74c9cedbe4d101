package authz

import (
	"bytes"
	"context"
	"time"
)

// Run reads the configuration again when its file changes. One that cannot be used
// is named in the log, and the one before stays in force.
func (a *Authorizer) Run(ctx context.Context) error {
	if a.cfg.File == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(a.cfg.ReloadEvery)
	defer tick.Stop()
	var failed string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, err := a.reload()
		switch {
		case err != nil:
			// Said once, not at every look.
			if err.Error() != failed {
				a.cfg.Log.Error("the authorization configuration changed and cannot be used; the one before stays in force", "file", a.cfg.File, "err", err)
			}
			failed = err.Error()
		case changed:
			failed = ""
			a.cfg.Log.Info("the authorization configuration was read again", "file", a.cfg.File)
		default:
			failed = ""
		}
	}
}

// reload takes the file's configuration if it is another one.
func (a *Authorizer) reload() (bool, error) {
	settings, raw, err := a.cfg.read()
	if err != nil || bytes.Equal(raw, a.raw) {
		return false, err
	}
	next, err := a.build(settings)
	if err != nil {
		return false, err
	}
	a.raw = raw
	a.current.Store(next)
	return true, nil
}
