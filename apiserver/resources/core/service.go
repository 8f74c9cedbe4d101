package core

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

type serviceStrategy = resources.TypedStrategy[corev1.Service, *corev1.Service]

// Services are the services; the allocator of their addresses asks them for what
// nothing is to be allocated.
func Services() resources.Resource { return services() }

func services() resources.Resource {
	r := namespaced("Service", "services", "svc")
	r.Path = "services/specs"
	r.Categories = []string{"all"}
	r.Verbs = resources.AllVerbs
	r.Versions = v1(func() runtime.Object { return &corev1.ServiceList{} }, serviceDefaults)
	r.Columns = table.Columns(table.Name(), table.Text("Type", "How the service is exposed."),
		table.Text("Cluster-IP", "The service's address within the cluster."),
		table.Text("External-IP", "The service's addresses from outside."),
		table.Text("Port(s)", "The service's ports."), table.Age(),
		table.Wide(table.Text("Selector", "The labels of the service's pods.")))
	r.Subresources = map[string]resources.Subresource{
		"proxy": connect("ServiceProxyOptions", resources.ConnectProxy, resources.GetAndProxyTo...),
	}
	return resources.Declare(resources.Spec[corev1.Service, *corev1.Service]{
		Resource: r,
		Strategy: serviceStrategy{
			AllowCreateOnUpdate:      true,
			AllowUnconditionalUpdate: true,
			Validate:                 validateService, ValidateUpdate: validateServiceUpdate,
			NameValidation: validation.NameIsDNSLabel,
			PrepareForCreate: func(_ context.Context, s *corev1.Service) {
				s.Status = corev1.ServiceStatus{}
				syncClusterIPs(s, nil)
			},
			PrepareForUpdate: func(_ context.Context, s, old *corev1.Service) {
				s.Status = old.Status
				keepAllocated(s, old)
				syncClusterIPs(s, old)
				dropForeignToType(s, old)
			},
			ResetFields: []string{"status"},
			Warnings:    serviceWarnings,
		},
		Views: map[string]serviceStrategy{"status": {
			AllowUnconditionalUpdate: true,
			PrepareForUpdate:         func(_ context.Context, s, old *corev1.Service) { s.Spec = old.Spec },
			ValidateUpdate:           validateServiceStatusUpdate,
			ResetFields:              []string{"spec"},
		}},
		SelectableFields: map[string]func(*corev1.Service) string{
			"spec.clusterIP": func(s *corev1.Service) string { return s.Spec.ClusterIP },
			"spec.type":      func(s *corev1.Service) string { return string(s.Spec.Type) },
		},
		Row: serviceRow,
	})
}

func serviceDefaults(s *corev1.Service) {
	spec := &s.Spec
	if spec.SessionAffinity == "" {
		spec.SessionAffinity = corev1.ServiceAffinityNone
	}
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		spec.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		if c := spec.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{
				ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To(corev1.DefaultClientIPServiceAffinitySeconds)},
			}
		}
	}
	if spec.Type == "" {
		spec.Type = corev1.ServiceTypeClusterIP
	}
	for i := range spec.Ports {
		p := &spec.Ports[i]
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if externallyAccessible(s) && spec.ExternalTrafficPolicy == "" {
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	}
	if spec.InternalTrafficPolicy == nil && needsClusterIP(s) {
		spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		if spec.AllocateLoadBalancerNodePorts == nil {
			spec.AllocateLoadBalancerNodePorts = ptr.To(true)
		}
		for i := range s.Status.LoadBalancer.Ingress {
			if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" && in.IPMode == nil {
				in.IPMode = ptr.To(corev1.LoadBalancerIPModeVIP)
			}
		}
	}
}

func externallyAccessible(s *corev1.Service) bool {
	return needsNodePort(s) || (s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0)
}

func needsClusterIP(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		return true
	}
	return false
}

func needsNodePort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}

func needsHealthCheckPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// keepAllocated fills what an updater left out with what was allocated before.
func keepAllocated(s, old *corev1.Service) {
	if needsClusterIP(s) && needsClusterIP(old) {
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIPs = slices.Clone(old.Spec.ClusterIPs)
		}
	}
	if needsNodePort(s) && needsNodePort(old) {
		keepNodePorts(s, old)
	}
	if needsHealthCheckPort(s) && needsHealthCheckPort(old) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

func keepNodePorts(s, old *corev1.Service) {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	was, taken := map[key]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		was[key{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range s.Spec.Ports {
		taken[p.NodePort] = true
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if n := was[key{p.Protocol, p.Port}]; p.NodePort == 0 && !taken[n] {
			p.NodePort = n
		}
	}
}

// syncClusterIPs keeps the single address and the list of them consistent when
// a client that knows only one of the two changes it.
func syncClusterIPs(s, old *corev1.Service) {
	spec := &s.Spec
	if old == nil {
		if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
			spec.ClusterIPs = []string{spec.ClusterIP}
		}
		return
	}
	sameOne := spec.ClusterIP == old.Spec.ClusterIP
	sameList := slices.Equal(spec.ClusterIPs, old.Spec.ClusterIPs)
	switch {
	case !sameOne && sameList:
		// Only the single field changed: cleared empties the list, else it replaces it.
		spec.ClusterIPs = nil
		if spec.ClusterIP != "" {
			spec.ClusterIPs = []string{spec.ClusterIP}
		}
	case sameOne && !sameList && len(spec.ClusterIPs) == 0:
		spec.ClusterIP = ""
	}
}

// dropForeignToType clears what the former type needed and the new one cannot
// have, where the client just left it as it was.
func dropForeignToType(s, old *corev1.Service) {
	spec, was := &s.Spec, &old.Spec
	if needsClusterIP(old) && !needsClusterIP(s) {
		if spec.ClusterIP == was.ClusterIP && slices.Equal(spec.ClusterIPs, was.ClusterIPs) {
			spec.ClusterIP, spec.ClusterIPs = "", nil
		}
		if slices.Equal(spec.IPFamilies, was.IPFamilies) {
			spec.IPFamilies = nil
		}
		if ptr.Equal(spec.IPFamilyPolicy, was.IPFamilyPolicy) {
			spec.IPFamilyPolicy = nil
		}
		if ptr.Equal(spec.InternalTrafficPolicy, was.InternalTrafficPolicy) {
			spec.InternalTrafficPolicy = nil
		}
	}
	if needsNodePort(old) && !needsNodePort(s) && sameNodePorts(s, old) {
		for i := range spec.Ports {
			spec.Ports[i].NodePort = 0
		}
	}
	if needsHealthCheckPort(old) && !needsHealthCheckPort(s) && spec.HealthCheckNodePort == was.HealthCheckNodePort {
		spec.HealthCheckNodePort = 0
	}
	if was.Type == corev1.ServiceTypeLoadBalancer && spec.Type != corev1.ServiceTypeLoadBalancer {
		if ptr.Equal(spec.AllocateLoadBalancerNodePorts, was.AllocateLoadBalancerNodePorts) {
			spec.AllocateLoadBalancerNodePorts = nil
		}
		if ptr.Equal(spec.LoadBalancerClass, was.LoadBalancerClass) {
			spec.LoadBalancerClass = nil
		}
	}
	if externallyAccessible(old) && !externallyAccessible(s) && spec.ExternalTrafficPolicy == was.ExternalTrafficPolicy {
		spec.ExternalTrafficPolicy = ""
	}
}

// sameNodePorts says whether s asks for no node port that old did not have.
func sameNodePorts(s, old *corev1.Service) bool {
	ports := func(s *corev1.Service) map[int32]bool {
		set := map[int32]bool{}
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				set[p.NodePort] = true
			}
		}
		return set
	}
	had := ports(old)
	for p := range ports(s) {
		if !had[p] {
			return false
		}
	}
	return true
}

func serviceRow(s *corev1.Service) []any {
	clusterIP := "<none>"
	if len(s.Spec.ClusterIPs) > 0 {
		clusterIP = s.Spec.ClusterIPs[0]
	} else if s.Spec.ClusterIP != "" {
		clusterIP = s.Spec.ClusterIP
	}
	external := externalIP(s)
	if external == "" {
		external = "<none>"
	}
	return []any{s.Name, string(s.Spec.Type), clusterIP, external, formatPorts(s.Spec.Ports),
		table.Since(s.CreationTimestamp), labels.FormatLabels(s.Spec.Selector)}
}

func externalIP(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return strings.Join(s.Spec.ExternalIPs, ",")
	case corev1.ServiceTypeLoadBalancer:
		seen := map[string]bool{}
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				seen[in.IP] = true
			} else if in.Hostname != "" {
				seen[in.Hostname] = true
			}
		}
		all := make([]string, 0, len(seen)+len(s.Spec.ExternalIPs))
		for a := range seen {
			all = append(all, a)
		}
		sort.Strings(all)
		all = append(all, s.Spec.ExternalIPs...)
		if len(all) == 0 {
			return "<pending>"
		}
		return strings.Join(all, ",")
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	}
	return "<unknown>"
}

func formatPorts(ports []corev1.ServicePort) string {
	if len(ports) == 0 {
		return "<none>"
	}
	text := make([]string, len(ports))
	for i, p := range ports {
		text[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			text[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
	}
	return strings.Join(text, ",")
}
