package serviceip

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/admission"
)

var everything = labels.Everything()

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

func needsPorts(s *corev1.Service) bool {
	if s.Spec.Type == corev1.ServiceTypeNodePort {
		return true
	}
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && (s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts)
}

func needsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func (a *Allocator) nodePorts(at *admission.Attributes, svc, old *corev1.Service) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	owner := svc.Namespace + "/" + svc.Name
	mine := map[portKey]bool{}
	if old != nil {
		mine = portsOf(old)
	}
	var taken []portKey
	hold := func(k portKey) {
		if at.DryRun {
			return
		}
		a.ports[k] = owner
		taken = append(taken, k)
	}
	at.Undo = append(at.Undo, func(context.Context) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, k := range taken {
			delete(a.ports, k)
		}
	})
	// Ports of one number and different protocols go together.
	byNumber := map[int32]int32{}
	wants := needsPorts(svc)
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		path := field.NewPath("spec", "ports").Index(i).Child("nodePort")
		if p.NodePort != 0 {
			k := portKey{p.Protocol, p.NodePort}
			if mine[k] {
				continue
			}
			if int(p.NodePort) < a.cfg.MinPort || int(p.NodePort) > a.cfg.MaxPort {
				return invalid(svc, field.Invalid(path, p.NodePort, fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", a.cfg.MinPort, a.cfg.MaxPort)))
			}
			if a.busy(k, owner) {
				return invalid(svc, field.Invalid(path, p.NodePort, "provided port is already allocated"))
			}
			hold(k)
			byNumber[p.Port] = p.NodePort
			continue
		}
		if !wants {
			continue
		}
		if n, ok := byNumber[p.Port]; ok && !a.busy(portKey{p.Protocol, n}, owner) {
			p.NodePort = n
			hold(portKey{p.Protocol, n})
			continue
		}
		n, err := a.free()
		if err != nil {
			return err
		}
		p.NodePort = n
		byNumber[p.Port] = n
		hold(portKey{p.Protocol, n})
	}
	switch {
	case !needsHealthPort(svc):
		svc.Spec.HealthCheckNodePort = 0
	case svc.Spec.HealthCheckNodePort == 0:
		n, err := a.free()
		if err != nil {
			return err
		}
		svc.Spec.HealthCheckNodePort = n
		hold(portKey{corev1.ProtocolTCP, n})
	case !mine[portKey{corev1.ProtocolTCP, svc.Spec.HealthCheckNodePort}]:
		k := portKey{corev1.ProtocolTCP, svc.Spec.HealthCheckNodePort}
		if a.busy(k, owner) {
			return invalid(svc, field.Invalid(field.NewPath("spec", "healthCheckNodePort"), k.port, "provided port is already allocated"))
		}
		hold(k)
	}
	return nil
}

// busy tells whether another Service holds the port. The caller holds mu.
func (a *Allocator) busy(k portKey, owner string) bool {
	if who, ok := a.ports[k]; ok && who != owner {
		return true
	}
	list, err := a.services.List(everything)
	if err != nil {
		return false
	}
	for _, s := range list {
		if s.Namespace+"/"+s.Name != owner && portsOf(s)[k] {
			return true
		}
	}
	return false
}

// free finds a port that nobody holds, past the last one given. The caller holds mu.
func (a *Allocator) free() (int32, error) {
	size := a.cfg.MaxPort - a.cfg.MinPort + 1
	used := map[int32]bool{}
	for k := range a.ports {
		used[k.port] = true
	}
	list, err := a.services.List(everything)
	if err != nil {
		return 0, apierrors.NewInternalError(err)
	}
	for _, s := range list {
		for k := range portsOf(s) {
			used[k.port] = true
		}
	}
	for range size {
		a.next++
		if a.next > a.cfg.MaxPort || a.next < a.cfg.MinPort {
			a.next = a.cfg.MinPort
		}
		if n := int32(a.next); !used[n] {
			return n, nil
		}
	}
	return 0, apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: range is full"))
}

// releasePorts gives back the ports that svc, which may be nil, no longer has.
func (a *Allocator) releasePorts(old, svc *corev1.Service) {
	a.mu.Lock()
	defer a.mu.Unlock()
	keep := map[portKey]bool{}
	if svc != nil {
		keep = portsOf(svc)
	}
	for k := range portsOf(old) {
		if !keep[k] {
			delete(a.ports, k)
		}
	}
}
