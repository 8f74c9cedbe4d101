package controllers

import (
	"context"
	"fmt"
	"sync"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
)

// elect runs the controllers whenever this candidate holds the Lease.
func (m *Manager) elect(ctx context.Context) error {
	return ElectedWith(ctx, m.client, m.config.Lease, m.run)
}

// Elected calls run whenever this candidate holds the Lease kube-system/name,
// with the usual times.
func Elected(ctx context.Context, client kubernetes.Interface, name, identity string, run func(context.Context) error) error {
	l := Lease{Name: name, Identity: identity}
	l.setDefaults()
	return ElectedWith(ctx, client, l, run)
}

// ElectedWith calls run whenever this candidate holds the Lease. A lost Lease
// ends run's context, and the candidacy begins anew; run's error ends it.
func ElectedWith(ctx context.Context, client kubernetes.Interface, l Lease, run func(context.Context) error) error {
	events := record.NewBroadcaster(record.WithContext(ctx))
	defer events.Shutdown()
	sink := events.StartRecordingToSink(&typed.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer sink.Stop()
	lock := &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name},
		Client:    client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{
			Identity: l.Identity, EventRecorder: events.NewRecorder(scheme.Scheme, v1.EventSource{Component: l.Name}),
		},
	}
	for ctx.Err() == nil {
		if err := term(ctx, lock, l, run); err != nil {
			return err
		}
	}
	return nil
}

func term(ctx context.Context, lock resourcelock.Interface, l Lease, run func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		failure     error
		mu          sync.Mutex // guards begun and over
		begun, over bool
	)
	ended := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: l.Name, ReleaseOnCancel: true,
		LeaseDuration: l.Duration, RenewDeadline: l.RenewDeadline, RetryPeriod: l.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(term context.Context) {
				mu.Lock()
				begun = !over
				mu.Unlock()
				if !begun {
					return
				}
				defer close(ended)
				defer cancel() // a failed part gives the Lease away
				failure = run(term)
			},
			OnStoppedLeading: func() { klog.FromContext(ctx).Info("The lease is not held any more", "lease", l.Name) },
		},
	})
	if err != nil {
		return fmt.Errorf("controllers: election of %s: %w", l.Name, err)
	}
	elector.Run(ctx)
	// The elector starts run in a goroutine that it does not wait for.
	mu.Lock()
	over = true
	wait := begun
	mu.Unlock()
	if wait {
		<-ended
	}
	return failure
}
