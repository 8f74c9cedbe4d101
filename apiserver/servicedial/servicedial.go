// Package servicedial connects to the endpoints of services: the server may run
// where cluster addresses lead nowhere.
package servicedial

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/utils/ptr"
)

// Dialer finds the endpoints of services by itself.
type Dialer struct {
	Services corelisters.ServiceLister
	Slices   discoverylisters.EndpointSliceLister
}

// New looks services up in the informers.
func New(f informers.SharedInformerFactory) *Dialer {
	return &Dialer{Services: f.Core().V1().Services().Lister(), Slices: f.Discovery().V1().EndpointSlices().Lister()}
}

// Dial connects to a ready endpoint of a service's port.
func (s *Dialer) Dial(ctx context.Context, namespace, service string, port int32) (net.Conn, error) {
	addr, err := s.Resolve(namespace, service, port)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// Resolve is the address of a ready endpoint of a service's port.
func (s *Dialer) Resolve(namespace, service string, port int32) (string, error) {
	svc, err := s.Services.Services(namespace).Get(service)
	if err != nil {
		return "", err
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port))), nil
	}
	name, ok := PortName(svc, port)
	if !ok {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", port, service))
	}
	list, err := s.Slices.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service}))
	if err != nil {
		return "", err
	}
	ready := Ready(list, name)
	if len(ready) == 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", service))
	}
	return ready[rand.IntN(len(ready))], nil
}

// PortName is the name of a service's port, by which its endpoints go.
func PortName(svc *corev1.Service, port int32) (string, bool) {
	for _, p := range svc.Spec.Ports {
		if p.Port == port {
			return p.Name, true
		}
	}
	return "", false
}

// Ready are the addresses of the ready endpoints that have the port.
func Ready(list []*discoveryv1.EndpointSlice, port string) []string {
	var out []string
	for _, s := range list {
		for _, p := range s.Ports {
			if p.Port == nil || ptr.Deref(p.Name, "") != port {
				continue
			}
			for _, e := range s.Endpoints {
				if ptr.Deref(e.Conditions.Ready, true) && len(e.Addresses) > 0 {
					out = append(out, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	return out
}
