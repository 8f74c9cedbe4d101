package encryption

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"skiff/apiserver/store"
)

// reloadEvery is how often the file is looked at.
const reloadEvery = 10 * time.Second

// Encryption encrypts what the configuration in force says.
type Encryption struct {
	path string
	raw  []byte
	log  *slog.Logger

	current atomic.Pointer[configuration]
}

// Load reads the file of --encryption-provider-config.
func Load(path string, log *slog.Logger) (*Encryption, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("encryption: %w", err)
	}
	e, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("encryption: %s: %w", path, err)
	}
	e.path, e.log = path, log
	return e, nil
}

// Parse makes an Encryption of an EncryptionConfiguration.
func Parse(raw []byte) (*Encryption, error) {
	c, err := parse(raw)
	if err != nil {
		return nil, err
	}
	e := &Encryption{raw: raw, log: slog.Default()}
	e.current.Store(c)
	return e, nil
}

// For is the transformer of a resource. It follows the configuration.
func (e *Encryption) For(group, resource string) store.Transformer {
	return &following{e: e, group: group, resource: resource}
}

// Healthy says whether the key services answer.
func (e *Encryption) Healthy(context.Context) error {
	var errs []error
	for _, k := range e.current.Load().services {
		errs = append(errs, k.healthy())
	}
	return errors.Join(errs...)
}

// Run reads the file again when it changes, with reload, and keeps asking the key
// services, until ctx ends. A configuration that cannot be used changes nothing.
func (e *Encryption) Run(ctx context.Context, reload bool) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	watch := func(c *configuration) (stop func()) {
		ctx, cancel := context.WithCancel(ctx)
		for _, k := range c.services {
			wg.Go(func() { k.watch(ctx) })
		}
		return cancel
	}
	stop := watch(e.current.Load())
	var retired []*configuration
	defer func() {
		stop()
		for _, c := range append(retired, e.current.Load()) {
			c.close()
		}
	}()
	if !reload {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		next, err := e.changed(ctx)
		switch {
		case err != nil:
			e.log.Error("the encryption configuration changed and cannot be used; the one before stays in force", "file", e.path, "err", err)
		case next != nil:
			e.log.Info("the encryption configuration was read again", "file", e.path)
			// Requests that began under the one before may still need its services.
			retired = append(retired, e.current.Swap(next))
			stop()
			stop = watch(next)
		}
	}
}

// changed is the configuration of the file where it is another than before. Its key
// services must answer.
func (e *Encryption) changed(ctx context.Context) (*configuration, error) {
	raw, err := os.ReadFile(e.path)
	if err != nil || bytes.Equal(raw, e.raw) {
		return nil, err
	}
	next, err := parse(raw)
	if err != nil {
		return nil, err
	}
	for _, k := range next.services {
		if err := k.renew(ctx); err != nil {
			next.close()
			return nil, err
		}
	}
	e.raw = raw
	return next, nil
}

// following is a resource's transformer under whatever configuration is in force.
type following struct {
	e               *Encryption
	group, resource string
}

// ToStorage implements store.Transformer.
func (f *following) ToStorage(ctx context.Context, key string, plain []byte) ([]byte, error) {
	if c := f.e.current.Load().chain(f.group, f.resource); c != nil {
		return c.ToStorage(ctx, key, plain)
	}
	return plain, nil
}

// FromStorage implements store.Transformer.
func (f *following) FromStorage(ctx context.Context, key string, stored []byte) ([]byte, bool, error) {
	if c := f.e.current.Load().chain(f.group, f.resource); c != nil {
		return c.FromStorage(ctx, key, stored)
	}
	if bytes.HasPrefix(stored, []byte(encrypted)) {
		return nil, false, errors.New("the value is encrypted, and the encryption configuration does not name its resource: give the provider that it was written with")
	}
	return stored, false, nil
}
