package apiservertest

import (
	"context"
	"testing"

	"k8s.io/client-go/informers"
)

// RunController runs a controller over its informers until the test ends.
func RunController(t testing.TB, factory informers.SharedInformerFactory, c interface{ Run(context.Context) error }) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	factory.Start(ctx.Done())
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the controller ended with %v", err)
		}
		factory.Shutdown()
	})
}
