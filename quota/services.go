package quota

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Services counts Services, and those with node ports or load balancers.
type Services struct{}

// Resource is services.
func (Services) Resource() schema.GroupResource { return schema.GroupResource{Resource: "services"} }

// Tracks says whether name is about Services.
func (Services) Tracks(name v1.ResourceName) bool {
	switch name {
	case v1.ResourceServices, v1.ResourceServicesNodePorts, v1.ResourceServicesLoadBalancers, "count/services":
		return true
	}
	return false
}

// Usage is what the Service takes.
func (Services) Usage(obj runtime.Object) (v1.ResourceList, error) {
	s, ok := obj.(*v1.Service)
	if !ok {
		return nil, fmt.Errorf("quota: %T is no Service", obj)
	}
	out := v1.ResourceList{
		"count/services": one(), v1.ResourceServices: one(),
		v1.ResourceServicesNodePorts:     *resource.NewQuantity(0, resource.DecimalSI),
		v1.ResourceServicesLoadBalancers: *resource.NewQuantity(0, resource.DecimalSI),
	}
	ports := int64(len(s.Spec.Ports))
	switch s.Spec.Type {
	case v1.ServiceTypeNodePort:
		out[v1.ResourceServicesNodePorts] = *resource.NewQuantity(ports, resource.DecimalSI)
	case v1.ServiceTypeLoadBalancer:
		if s.Spec.AllocateLoadBalancerNodePorts != nil && !*s.Spec.AllocateLoadBalancerNodePorts {
			ports = 0
			for _, p := range s.Spec.Ports {
				if p.NodePort != 0 {
					ports++
				}
			}
		}
		out[v1.ResourceServicesNodePorts] = *resource.NewQuantity(ports, resource.DecimalSI)
		out[v1.ResourceServicesLoadBalancers] = one()
	}
	return out, nil
}

// Constrain accepts every Service.
func (Services) Constrain([]v1.ResourceName, runtime.Object) error { return nil }

// InScope is false: Services have no scopes.
func (Services) InScope(v1.ScopedResourceSelectorRequirement, runtime.Object) (bool, error) {
	return false, nil
}

// CountsUpdate is true: a Service can become a load balancer.
func (Services) CountsUpdate(subresource string) bool { return subresource == "" }
