// Package loop is the shape that all controllers share: a queue of keys, the
// informers that fill it, and bounded concurrent calls of one sync function.
// A controller owns a Loop, adds its handlers in New and blocks in Run.
package loop

import (
	"errors"
	"fmt"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
)

// Parts is what every controller is given.
type Parts struct {
	// Client speaks to the API under the controller's own identity. Required.
	Client kubernetes.Interface
	// Informers is the shared factory; whoever made it starts it. Required.
	Informers informers.SharedInformerFactory
	// Events records what users should see. Default: events are dropped.
	Events record.EventRecorder
	// Clock tells time. Default: the real clock.
	Clock clock.WithTicker
	// Workers is how many keys are handled at once. Default: 5.
	Workers int
}

// Complete returns the parts with their defaults, or what is missing.
func (p Parts) Complete(controller string) (Parts, error) {
	var errs []error
	if p.Client == nil {
		errs = append(errs, fmt.Errorf("%s: Client is nil: give the controller's API client", controller))
	}
	if p.Informers == nil {
		errs = append(errs, fmt.Errorf("%s: Informers is nil: give the shared informer factory", controller))
	}
	if p.Workers < 0 {
		errs = append(errs, fmt.Errorf("%s: Workers is %d: give a positive number", controller, p.Workers))
	}
	if p.Events == nil {
		p.Events = &record.FakeRecorder{}
	}
	if p.Clock == nil {
		p.Clock = clock.RealClock{}
	}
	if p.Workers == 0 {
		p.Workers = 5
	}
	return p, errors.Join(errs...)
}
