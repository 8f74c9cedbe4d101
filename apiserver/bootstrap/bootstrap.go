// Package bootstrap makes and keeps what every cluster has, whoever set it up:
// the system namespaces, the default roles, priority classes, flow schemas, the
// range of cluster IPs, the `kubernetes` Service with the addresses of all API
// servers, and this server's identity Lease.
package bootstrap

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"skiff/apiserver/authn"
)

// Config of the objects.
type Config struct {
	// Client may do everything.
	Client       kubernetes.Interface
	ServiceCIDRs []netip.Prefix
	// Address and Port are where this server is reached.
	Address netip.Addr
	Port    int
	// ClientCA and FrontProxyCA are told to aggregated servers, as PEM.
	ClientCA, FrontProxyCA []byte
	// FrontProxy are the names and headers of the latter's proxies.
	FrontProxy authn.RequestHeaderConfig
	Log        *slog.Logger
}

// Run makes the objects, calls ready, and keeps those that change until ctx ends.
func Run(ctx context.Context, c Config, ready func()) error {
	for {
		err := ensureAll(ctx, c)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		c.Log.Warn("objects of a fresh cluster could not all be made; they are tried again", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
	ready()
	return keep(ctx, c)
}

// step makes one set of objects.
type step func(ctx context.Context, c Config) error

// ensureAll makes what is missing. Sets that do not need one another are made
// at once: their writes share a flush of the disk.
func ensureAll(ctx context.Context, c Config) error {
	if err := namespaces(ctx, c); err != nil {
		return err
	}
	var wg sync.WaitGroup
	steps := []step{roles, priorityClasses, flowControl, serviceCIDR, authenticationConfig, tokenTracking}
	errs := make([]error, len(steps))
	for i, s := range steps {
		wg.Go(func() { errs[i] = s(ctx, c) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return kubernetesService(ctx, c)
}

// creator is the part of a typed client that makes objects.
type creator[T any] interface {
	Create(ctx context.Context, obj T, opts metav1.CreateOptions) (T, error)
}

// makeOne creates obj where it does not exist.
func makeOne[T any](ctx context.Context, client creator[T], obj T, opts metav1.CreateOptions) error {
	_, err := client.Create(ctx, obj, opts)
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// makeAll creates objects side by side.
func makeAll[T any](ctx context.Context, client creator[T], objs []T, opts metav1.CreateOptions) error {
	errs := make([]error, len(objs))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32)
	for i, obj := range objs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = makeOne(ctx, client, obj, opts)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
