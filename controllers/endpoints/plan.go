package endpoints

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	slice "k8s.io/endpointslice"
	track "k8s.io/endpointslice/util"
	utilnet "k8s.io/utils/net"

	"skiff/controllers/podcontrol"
)

// LabelManagedBy and Manager mark the objects kept here.
const (
	LabelManagedBy = "endpoints.kubernetes.io/managed-by"
	Manager        = "endpoint-controller"
)

// most is how many addresses one Endpoints object may have.
const most = 1000

// Next is the Endpoints object that the Service and its pods call for, with
// the identity of old.
func Next(s *v1.Service, pods []*v1.Pod, old *v1.Endpoints) *v1.Endpoints {
	next := old.DeepCopy()
	next.Subsets = truncate(subsets(s, pods), next)
	next.Labels = maps.Clone(s.Labels)
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	next.Labels[LabelManagedBy] = Manager
	if s.Spec.ClusterIP == v1.ClusterIPNone {
		next.Labels[v1.IsHeadlessService] = ""
	} else {
		delete(next.Labels, v1.IsHeadlessService)
	}
	if len(next.Annotations) == 0 {
		next.Annotations = old.Annotations
	}
	return next
}

// subsets groups the addresses by the ports they serve.
func subsets(s *v1.Service, pods []*v1.Pod) []v1.EndpointSubset {
	byPorts := map[string]*v1.EndpointSubset{}
	for _, pod := range pods {
		if !track.ShouldPodBeInEndpoints(pod, s.Spec.PublishNotReadyAddresses) {
			continue
		}
		address, ok := addressOf(s, pod)
		if !ok {
			continue
		}
		var ports []v1.EndpointPort
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			n, err := slice.FindPort(pod, p)
			if err != nil {
				continue
			}
			ports = append(ports, v1.EndpointPort{Name: p.Name, Port: int32(n), Protocol: p.Protocol, AppProtocol: p.AppProtocol})
		}
		if len(ports) == 0 && (len(s.Spec.Ports) > 0 || s.Spec.ClusterIP != v1.ClusterIPNone) {
			continue
		}
		slices.SortFunc(ports, func(a, b v1.EndpointPort) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
		})
		// A list of plain values always encodes.
		raw, _ := json.Marshal(ports)
		set := byPorts[string(raw)]
		if set == nil {
			set = &v1.EndpointSubset{Ports: ports}
			byPorts[string(raw)] = set
		}
		if s.Spec.PublishNotReadyAddresses || podcontrol.Ready(pod) {
			set.Addresses = append(set.Addresses, address)
		} else {
			set.NotReadyAddresses = append(set.NotReadyAddresses, address)
		}
	}
	out := make([]v1.EndpointSubset, 0, len(byPorts))
	for _, key := range slices.Sorted(maps.Keys(byPorts)) {
		set := byPorts[key]
		slices.SortFunc(set.Addresses, compareAddress)
		slices.SortFunc(set.NotReadyAddresses, compareAddress)
		out = append(out, *set)
	}
	return out
}

func compareAddress(a, b v1.EndpointAddress) int {
	var x, y string
	if a.TargetRef != nil {
		x = string(a.TargetRef.UID)
	}
	if b.TargetRef != nil {
		y = string(b.TargetRef.UID)
	}
	return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(x, y))
}

// addressOf picks the pod's address of the Service's primary family.
func addressOf(s *v1.Service, pod *v1.Pod) (v1.EndpointAddress, bool) {
	six := utilnet.IsIPv6String(s.Spec.ClusterIP)
	if len(s.Spec.IPFamilies) > 0 {
		six = s.Spec.IPFamilies[0] == v1.IPv6Protocol
	}
	ip := ""
	for _, p := range pod.Status.PodIPs {
		if utilnet.IsIPv6String(p.IP) == six {
			ip = p.IP
			break
		}
	}
	if ip == "" && len(pod.Status.PodIPs) == 0 && utilnet.IsIPv6String(pod.Status.PodIP) == six {
		ip = pod.Status.PodIP
	}
	if ip == "" {
		return v1.EndpointAddress{}, false
	}
	a := v1.EndpointAddress{
		IP:        ip,
		TargetRef: &v1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		node := pod.Spec.NodeName
		a.NodeName = &node
	}
	if track.ShouldSetHostname(pod, s) {
		a.Hostname = pod.Spec.Hostname
	}
	return a, true
}

// truncate bounds the object's size and says so in an annotation.
func truncate(sets []v1.EndpointSubset, e *v1.Endpoints) []v1.EndpointSubset {
	ready, waiting := 0, 0
	for _, s := range sets {
		ready += len(s.Addresses)
		waiting += len(s.NotReadyAddresses)
	}
	if ready+waiting <= most {
		delete(e.Annotations, v1.EndpointsOverCapacity)
		return sets
	}
	if e.Annotations == nil {
		e.Annotations = map[string]string{}
	}
	e.Annotations[v1.EndpointsOverCapacity] = "truncated"
	left := most
	keepReady := min(ready, left)
	left -= keepReady
	keepWaiting := min(waiting, left)
	var out []v1.EndpointSubset
	for _, s := range sets {
		n, m := min(len(s.Addresses), keepReady), min(len(s.NotReadyAddresses), keepWaiting)
		keepReady, keepWaiting = keepReady-n, keepWaiting-m
		s.Addresses, s.NotReadyAddresses = s.Addresses[:n], s.NotReadyAddresses[:m]
		if n+m > 0 {
			out = append(out, s)
		}
	}
	return out
}
