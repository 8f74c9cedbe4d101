package endpointslicemirroring

import (
	"encoding/json"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/utils/net"
	"k8s.io/utils/ptr"
)

// perSubset is the most addresses that are mirrored of a subset, perSlice the
// most of one slice.
const (
	perSubset = 1000
	perSlice  = 1000
)

// Plan is what to change among the mirrored slices.
type Plan struct {
	Create, Update, Delete []*discovery.EndpointSlice
}

// MakePlan compares the Endpoints with the slices that mirror them. A slice of
// the same ports and family is reused under its name.
func MakePlan(e *v1.Endpoints, existing []*discovery.EndpointSlice) Plan {
	free := map[string][]*discovery.EndpointSlice{}
	for _, s := range existing {
		key := shape(s.AddressType, s.Ports)
		free[key] = append(free[key], s)
	}
	var plan Plan
	for _, want := range wanted(e) {
		key := shape(want.AddressType, want.Ports)
		if len(free[key]) == 0 {
			plan.Create = append(plan.Create, want)
			continue
		}
		have := free[key][0]
		free[key] = free[key][1:]
		next := have.DeepCopy()
		next.Endpoints, next.Labels, next.Annotations = want.Endpoints, want.Labels, want.Annotations
		next.OwnerReferences = want.OwnerReferences
		if !equality.Semantic.DeepEqual(have, next) {
			plan.Update = append(plan.Update, next)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(free)) {
		plan.Delete = append(plan.Delete, free[key]...)
	}
	return plan
}

func shape(family discovery.AddressType, ports []discovery.EndpointPort) string {
	// A list of plain values always encodes.
	raw, _ := json.Marshal(ports)
	return string(family) + string(raw)
}

func wanted(e *v1.Endpoints) []*discovery.EndpointSlice {
	var out []*discovery.EndpointSlice
	for _, subset := range e.Subsets {
		ports := make([]discovery.EndpointPort, len(subset.Ports))
		for i, p := range subset.Ports {
			ports[i] = discovery.EndpointPort{Name: ptr.To(p.Name), Port: ptr.To(p.Port), Protocol: ptr.To(p.Protocol), AppProtocol: p.AppProtocol}
		}
		families := map[discovery.AddressType][]discovery.Endpoint{}
		n := 0
		add := func(addresses []v1.EndpointAddress, ready bool) {
			for _, a := range addresses {
				family := discovery.AddressTypeIPv4
				switch {
				case utilnet.IsIPv6String(a.IP):
					family = discovery.AddressTypeIPv6
				case !utilnet.IsIPv4String(a.IP):
					continue
				}
				if n++; n > perSubset {
					return
				}
				endpoint := discovery.Endpoint{
					Addresses:  []string{a.IP},
					Conditions: discovery.EndpointConditions{Ready: ptr.To(ready)},
					TargetRef:  a.TargetRef, NodeName: a.NodeName,
				}
				if a.Hostname != "" {
					endpoint.Hostname = ptr.To(a.Hostname)
				}
				families[family] = append(families[family], endpoint)
			}
		}
		add(subset.Addresses, true)
		add(subset.NotReadyAddresses, false)
		for _, family := range slices.Sorted(maps.Keys(families)) {
			for part := range slices.Chunk(families[family], perSlice) {
				s := blank(e, family)
				s.Ports, s.Endpoints = ports, part
				out = append(out, s)
			}
		}
	}
	return out
}

func blank(e *v1.Endpoints, family discovery.AddressType) *discovery.EndpointSlice {
	labels := maps.Clone(e.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[discovery.LabelServiceName] = e.Name
	labels[discovery.LabelManagedBy] = Manager
	annotations := maps.Clone(e.Annotations)
	delete(annotations, v1.LastAppliedConfigAnnotation)
	delete(annotations, v1.EndpointsLastChangeTriggerTime)
	return &discovery.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: e.Name + "-", Namespace: e.Namespace, Labels: labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(e, v1.SchemeGroupVersion.WithKind("Endpoints"))},
		},
		AddressType: family,
	}
}
