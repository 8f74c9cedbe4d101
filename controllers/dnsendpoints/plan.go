package dnsendpoints

import (
	"cmp"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/utils/net"
	"k8s.io/utils/ptr"
)

// labelEndpointsManagedBy names the keeper of an Endpoints object.
const labelEndpointsManagedBy = "endpoints.kubernetes.io/managed-by"

// perSlice is the most endpoints of a slice, and perEndpoints the most addresses
// of an Endpoints object: more nodes than that would make each change costly.
const (
	perSlice     = 100
	perEndpoints = 1000
)

// Ports are those that the DNS server of each node listens on.
type Ports struct{ Query, Metrics int32 }

// Plan is what to change among the slices.
type Plan struct {
	Create, Update, Delete []*discovery.EndpointSlice
}

// MakePlan compares the nodes with the slices. An endpoint stays in the slice
// that it is in; new ones fill the slices with room. No service wants no slices.
func MakePlan(service *v1.Service, nodes []*v1.Node, existing []*discovery.EndpointSlice, ports Ports) Plan {
	var plan Plan
	if service == nil {
		plan.Delete = existing
		return plan
	}
	existing = slices.SortedFunc(slices.Values(existing), func(a, b *discovery.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	left := existing
	for _, family := range families(service) {
		want := map[string]discovery.Endpoint{}
		for _, n := range nodes {
			if e := endpointOf(n, family); e != nil {
				want[n.Name] = *e
			}
		}
		var have []*discovery.EndpointSlice
		have, left = split(left, family)
		var kept []*discovery.EndpointSlice
		for _, s := range have {
			next := s.DeepCopy()
			dress(next, service, ports)
			next.Endpoints = nil
			for _, e := range s.Endpoints {
				name := ptr.Deref(e.NodeName, "")
				if w, ok := want[name]; ok {
					next.Endpoints = append(next.Endpoints, w)
					delete(want, name)
				}
			}
			kept = append(kept, next)
		}
		fresh := slices.Sorted(maps.Keys(want))
		for _, s := range kept {
			for len(fresh) > 0 && len(s.Endpoints) < perSlice {
				s.Endpoints = append(s.Endpoints, want[fresh[0]])
				fresh = fresh[1:]
			}
		}
		for i, s := range kept {
			switch {
			case len(s.Endpoints) == 0:
				plan.Delete = append(plan.Delete, have[i])
			case !equality.Semantic.DeepEqual(s, have[i]):
				plan.Update = append(plan.Update, s)
			}
		}
		for part := range slices.Chunk(fresh, perSlice) {
			s := &discovery.EndpointSlice{ObjectMeta: metav1.ObjectMeta{GenerateName: Name + "-", Namespace: Namespace}, AddressType: family}
			dress(s, service, ports)
			for _, name := range part {
				s.Endpoints = append(s.Endpoints, want[name])
			}
			plan.Create = append(plan.Create, s)
		}
	}
	plan.Delete = append(plan.Delete, left...)
	return plan
}

func split(all []*discovery.EndpointSlice, family discovery.AddressType) (of, others []*discovery.EndpointSlice) {
	for _, s := range all {
		if s.AddressType == family {
			of = append(of, s)
		} else {
			others = append(others, s)
		}
	}
	return of, others
}

// families are those of the Service's cluster IPs.
func families(s *v1.Service) []discovery.AddressType {
	var out []discovery.AddressType
	ips := s.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{s.Spec.ClusterIP}
	}
	for _, ip := range ips {
		switch {
		case utilnet.IsIPv6String(ip):
			out = append(out, discovery.AddressTypeIPv6)
		case utilnet.IsIPv4String(ip):
			out = append(out, discovery.AddressTypeIPv4)
		}
	}
	return out
}

// dress gives a slice all but its endpoints.
func dress(s *discovery.EndpointSlice, service *v1.Service, ports Ports) {
	s.Labels = maps.Clone(service.Labels)
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.Labels[discovery.LabelServiceName] = service.Name
	s.Labels[discovery.LabelManagedBy] = Manager
	s.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(service, v1.SchemeGroupVersion.WithKind("Service"))}
	s.Ports = nil
	for _, p := range endpointPorts(ports) {
		s.Ports = append(s.Ports, discovery.EndpointPort{Name: ptr.To(p.Name), Port: ptr.To(p.Port), Protocol: ptr.To(p.Protocol)})
	}
}

func endpointPorts(p Ports) []v1.EndpointPort {
	return []v1.EndpointPort{
		{Name: "dns", Port: p.Query, Protocol: v1.ProtocolUDP},
		{Name: "dns-tcp", Port: p.Query, Protocol: v1.ProtocolTCP},
		{Name: "metrics", Port: p.Metrics, Protocol: v1.ProtocolTCP},
	}
}

// endpointOf is nil for a node that is leaving or has no address of the family.
func endpointOf(n *v1.Node, family discovery.AddressType) *discovery.Endpoint {
	if n.DeletionTimestamp != nil {
		return nil
	}
	for _, a := range n.Status.Addresses {
		if a.Type != v1.NodeInternalIP || utilnet.IsIPv6String(a.Address) != (family == discovery.AddressTypeIPv6) {
			continue
		}
		up := ready(n)
		e := &discovery.Endpoint{
			Addresses:  []string{a.Address},
			Conditions: discovery.EndpointConditions{Ready: ptr.To(up), Serving: ptr.To(up), Terminating: ptr.To(false)},
			NodeName:   ptr.To(n.Name),
			TargetRef:  &v1.ObjectReference{Kind: "Node", Name: n.Name, UID: n.UID},
		}
		if zone := n.Labels[v1.LabelTopologyZone]; zone != "" {
			e.Zone = ptr.To(zone)
		}
		return e
	}
	return nil
}

func ready(n *v1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c v1.NodeCondition) bool {
		return c.Type == v1.NodeReady && c.Status == v1.ConditionTrue
	})
}

// MakeEndpoints is the Endpoints object of the Service's first family; nil when
// there should be none.
func MakeEndpoints(service *v1.Service, nodes []*v1.Node, ports Ports) *v1.Endpoints {
	if service == nil || len(families(service)) == 0 {
		return nil
	}
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b *v1.Node) int { return cmp.Compare(a.Name, b.Name) })
	subset := v1.EndpointSubset{Ports: endpointPorts(ports)}
	for _, n := range nodes {
		e := endpointOf(n, families(service)[0])
		if e == nil || len(subset.Addresses)+len(subset.NotReadyAddresses) == perEndpoints {
			continue
		}
		a := v1.EndpointAddress{IP: e.Addresses[0], NodeName: e.NodeName, TargetRef: e.TargetRef}
		if *e.Conditions.Ready {
			subset.Addresses = append(subset.Addresses, a)
		} else {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, a)
		}
	}
	out := &v1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: service.Name, Namespace: service.Namespace, Labels: maps.Clone(service.Labels)}}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	out.Labels[labelEndpointsManagedBy] = Manager
	// The slices are written here; a mirror would list every node twice.
	out.Labels[discovery.LabelSkipMirror] = "true"
	if len(subset.Addresses)+len(subset.NotReadyAddresses) > 0 {
		out.Subsets = []v1.EndpointSubset{subset}
	}
	return out
}
