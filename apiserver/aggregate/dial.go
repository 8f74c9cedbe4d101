// Package aggregate makes servers of others part of this one: it keeps APIService
// objects for what is served here, hands requests for the other group versions on to
// the services behind them, and tells discovery of both.
package aggregate

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

// Services finds the endpoints of services itself: the server may run where
// cluster addresses lead nowhere.
type Services struct {
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
}

// NewServices looks services up in the informers.
func NewServices(f informers.SharedInformerFactory) *Services {
	return &Services{services: f.Core().V1().Services().Lister(), slices: f.Discovery().V1().EndpointSlices().Lister()}
}

// Dial connects to a ready endpoint of a service's port.
func (s *Services) Dial(ctx context.Context, namespace, service string, port int32) (net.Conn, error) {
	addr, err := s.Resolve(namespace, service, port)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// Resolve is the address of a ready endpoint of a service's port.
func (s *Services) Resolve(namespace, service string, port int32) (string, error) {
	svc, err := s.services.Services(namespace).Get(service)
	if err != nil {
		return "", err
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return net.JoinHostPort(svc.Spec.ExternalName, strconv.Itoa(int(port))), nil
	}
	name, ok := portName(svc, port)
	if !ok {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", port, service))
	}
	list, err := s.slices.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service}))
	if err != nil {
		return "", err
	}
	ready := addresses(list, name)
	if len(ready) == 0 {
		return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", service))
	}
	return ready[rand.IntN(len(ready))], nil
}

// portName is the name of a service's port, by which its endpoints go.
func portName(svc *corev1.Service, port int32) (string, bool) {
	for _, p := range svc.Spec.Ports {
		if p.Port == port {
			return p.Name, true
		}
	}
	return "", false
}

// addresses are those of the ready endpoints that have the port.
func addresses(list []*discoveryv1.EndpointSlice, port string) []string {
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
