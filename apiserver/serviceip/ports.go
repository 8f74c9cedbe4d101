package serviceip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/admission"
)

var everything = labels.Everything()

type portKey struct {
	protocol corev1.Protocol
	port     int32
}

// portsOf are the node ports a Service holds.
func portsOf(s *corev1.Service) map[portKey]bool {
	out := map[portKey]bool{}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			out[portKey{p.Protocol, p.NodePort}] = true
		}
	}
	if n := s.Spec.HealthCheckNodePort; n != 0 {
		out[portKey{corev1.ProtocolTCP, n}] = true
	}
	return out
}

// numbers are the node ports without their protocols: the book has one entry for
// a number, since a Service may use it for several protocols.
func numbers(s *corev1.Service) map[int32]bool {
	out := map[int32]bool{}
	if s == nil {
		return out
	}
	for k := range portsOf(s) {
		out[k.port] = true
	}
	return out
}

func needsPorts(s *corev1.Service) bool {
	if s.Spec.Type == corev1.ServiceTypeNodePort {
		return true
	}
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && (s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts)
}

func needsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// usedPorts asks the server, not the cache, for the ports of all Services.
func (a *Allocator) usedPorts(ctx context.Context) (map[int32]bool, error) {
	list, err := a.cfg.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing the Services that have node ports: %w", err)
	}
	out := map[int32]bool{}
	for i := range list.Items {
		for n := range numbers(&list.Items[i]) {
			out[n] = true
		}
	}
	return out, nil
}

// A port that its Service has just let go of is free a moment later, when the
// servers have seen it; a request for it waits for that.
const (
	portTries = 6
	portPause = 50 * time.Millisecond
)

// nodePorts fills the ports that are to be chosen, and books those and the ones
// that were asked for.
func (a *Allocator) nodePorts(ctx context.Context, at *admission.Attributes, svc, old *corev1.Service) error {
	if !needsHealthPort(svc) {
		svc.Spec.HealthCheckNodePort = 0
	}
	if !needsPorts(svc) && !needsHealthPort(svc) && len(numbers(svc)) == 0 {
		return nil
	}
	var plan *portPlan
	assign := func(p *ports) error {
		plan = newPortPlan(p, svc, numbers(old), a.book.now())
		return plan.assign(svc)
	}
	err := a.book.attempt(ctx, at.DryRun, assign)
	for try := 1; try < portTries && errors.As(err, new(*takenError)); try++ {
		var taken *takenError
		errors.As(err, &taken)
		used, listErr := a.usedPorts(ctx)
		if listErr != nil || used[taken.port] {
			break
		}
		if err := a.book.release(ctx, []portRelease{{port: taken.port}}); err != nil {
			return apierrors.NewInternalError(err)
		}
		if try > 1 {
			select {
			case <-ctx.Done():
				return apierrors.NewTimeoutError(ctx.Err().Error(), 1)
			case <-time.After(portPause):
			}
		}
		err = a.book.attempt(ctx, at.DryRun, assign)
	}
	var taken *takenError
	switch {
	case errors.As(err, &taken):
		return invalid(svc, field.Invalid(taken.path, taken.port, "provided port is already allocated"))
	case err != nil:
		if apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
			return err
		}
		return apierrors.NewInternalError(err)
	}
	svc.Spec.Ports, svc.Spec.HealthCheckNodePort = plan.ports, plan.health
	if len(plan.taken) == 0 || at.DryRun {
		return nil
	}
	at.Undo = append(at.Undo, func(ctx context.Context) {
		// The repair takes them when this fails.
		_ = a.book.change(context.WithoutCancel(ctx), func(p *ports) error {
			for _, n := range plan.taken {
				if p.grants[n] == plan.book.grants[n] {
					p.give(n)
				}
			}
			return nil
		})
	})
	return nil
}

// attempt is change, or for a dry run only what it would do.
func (b *book) attempt(ctx context.Context, dry bool, change func(p *ports) error) error {
	if !dry {
		return b.change(ctx, change)
	}
	p, _, _, err := b.read(ctx)
	if err != nil {
		return err
	}
	return change(p)
}

// takenError is a port that was asked for and is not free.
type takenError struct {
	path *field.Path
	port int32
}

func (e *takenError) Error() string { return fmt.Sprintf("node port %d is taken", e.port) }

// portPlan is what a Service's ports become, and what of it is new in the book.
type portPlan struct {
	book   *ports
	now    time.Time
	ports  []corev1.ServicePort
	health int32
	own    map[int32]bool
	taken  []int32
}

func newPortPlan(p *ports, svc *corev1.Service, mine map[int32]bool, now time.Time) *portPlan {
	plan := &portPlan{book: p, now: now, ports: slices.Clone(svc.Spec.Ports), health: svc.Spec.HealthCheckNodePort, own: mine}
	return plan
}

func (l *portPlan) assign(svc *corev1.Service) error {
	// Ports of one number and different protocols go together.
	byPort := map[int32]portKey{}
	wants := needsPorts(svc)
	for i := range l.ports {
		p := &l.ports[i]
		switch {
		case p.NodePort != 0:
			if err := l.ask(svc, p.NodePort, field.NewPath("spec", "ports").Index(i).Child("nodePort")); err != nil {
				return err
			}
		case !wants:
			continue
		default:
			if k, ok := byPort[p.Port]; ok && k.protocol != p.Protocol {
				p.NodePort = k.port
				break
			}
			n, err := l.pick()
			if err != nil {
				return err
			}
			p.NodePort = n
		}
		byPort[p.Port] = portKey{p.Protocol, p.NodePort}
	}
	switch {
	case !needsHealthPort(svc):
		return nil
	case l.health != 0:
		return l.ask(svc, l.health, field.NewPath("spec", "healthCheckNodePort"))
	}
	var err error
	l.health, err = l.pick()
	return err
}

// ask books a port that the Service names.
func (l *portPlan) ask(svc *corev1.Service, n int32, path *field.Path) error {
	switch {
	case l.own[n]:
		return nil
	case !l.book.within(n):
		return invalid(svc, field.Invalid(path, n, fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %s", l.book.spec())))
	case l.book.has(n):
		return &takenError{path, n}
	}
	l.hold(n)
	return nil
}

func (l *portPlan) pick() (int32, error) {
	n, ok := l.book.free()
	if !ok {
		return 0, apierrors.NewInternalError(errors.New("failed to allocate a nodePort: range is full"))
	}
	l.hold(n)
	return n, nil
}

func (l *portPlan) hold(n int32) {
	l.book.take(n, l.now)
	l.own[n] = true
	l.taken = append(l.taken, n)
}
