package core

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

const (
	kubeletPort        = 10250
	maxAffinitySeconds = 86400
	onlyLoadBalancer   = "may only be used when `type` is 'LoadBalancer'"
)

func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

func validateService(_ context.Context, s *corev1.Service) field.ErrorList {
	at := specPath
	spec := &s.Spec
	var errs field.ErrorList
	if len(spec.Ports) == 0 && !headless(s) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(at.Child("ports"), ""))
	}
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		for i, p := range spec.Ports {
			if p.Port == kubeletPort {
				errs = append(errs, field.Invalid(at.Child("ports").Index(i), p.Port, fmt.Sprintf("may not expose port %v externally since it is used by kubelet", kubeletPort)))
			}
		}
		if headless(s) {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(0), spec.ClusterIPs[0], "may not be set to 'None' for LoadBalancer services"))
		}
	case corev1.ServiceTypeNodePort:
		if headless(s) {
			errs = append(errs, field.Invalid(at.Child("clusterIPs").Index(0), spec.ClusterIPs[0], "may not be set to 'None' for NodePort services"))
		}
	case corev1.ServiceTypeExternalName:
		if len(spec.ClusterIPs) > 0 {
			errs = append(errs, field.Forbidden(at.Child("clusterIPs"), "may not be set for ExternalName services"))
		}
		if len(spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(at.Child("ipFamilies"), "may not be set for ExternalName services"))
		}
		if spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(at.Child("ipFamilyPolicy"), "may not be set for ExternalName services"))
		}
		if name := strings.TrimSuffix(spec.ExternalName, "."); name == "" {
			errs = append(errs, field.Required(at.Child("externalName"), ""))
		} else {
			for _, msg := range validation.IsDNS1123Subdomain(name) {
				errs = append(errs, field.Invalid(at.Child("externalName"), name, msg))
			}
		}
	}
	errs = append(errs, servicePorts(s, at.Child("ports"))...)
	errs = append(errs, unversioned.ValidateLabels(spec.Selector, at.Child("selector"))...)
	errs = append(errs, sessionAffinity(spec, at)...)
	errs = append(errs, serviceAddresses(s, at)...)
	for i, ip := range spec.ExternalIPs {
		at := at.Child("externalIPs").Index(i)
		if bad := validation.IsValidIPForLegacyField(at, ip, true, nil); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, EndpointIP(ip, at)...)
		}
	}
	errs = append(errs, required(spec.Type, at.Child("type"), corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort)...)
	errs = append(errs, loadBalancerFields(spec, at)...)
	if len(spec.LoadBalancerSourceRanges) == 0 {
		errs = append(errs, annotatedRanges(s)...)
	}
	return append(errs, trafficPolicies(s, at)...)
}

func servicePorts(s *corev1.Service, at *field.Path) field.ErrorList {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	var errs field.ErrorList
	names, ports, nodePorts := map[string]bool{}, map[key]bool{}, map[key]bool{}
	for i, p := range s.Spec.Ports {
		at := at.Index(i)
		switch {
		case p.Name == "" && len(s.Spec.Ports) > 1:
			errs = append(errs, field.Required(at.Child("name"), ""))
		case p.Name != "":
			for _, msg := range validation.IsDNS1123Label(p.Name) {
				errs = append(errs, field.Invalid(at.Child("name"), p.Name, msg))
			}
			if names[p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names[p.Name] = true
		}
		for _, msg := range validation.IsValidPortNum(int(p.Port)) {
			errs = append(errs, field.Invalid(at.Child("port"), p.Port, msg))
		}
		errs = append(errs, required(p.Protocol, at.Child("protocol"), corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)...)
		errs = append(errs, portNumOrName(p.TargetPort, at.Child("targetPort"))...)
		if p.AppProtocol != nil {
			for _, msg := range validation.IsQualifiedName(*p.AppProtocol) {
				errs = append(errs, field.Invalid(at.Child("appProtocol"), *p.AppProtocol, msg))
			}
		}
		if s.Spec.Type == corev1.ServiceTypeClusterIP && p.NodePort != 0 {
			errs = append(errs, field.Forbidden(at.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
		}
		if k := (key{p.Protocol, p.NodePort}); p.NodePort != 0 {
			if nodePorts[k] {
				errs = append(errs, field.Duplicate(at.Child("nodePort"), p.NodePort))
			}
			nodePorts[k] = true
		}
		k := key{p.Protocol, p.Port}
		if ports[k] {
			errs = append(errs, field.Duplicate(at, corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}))
		}
		ports[k] = true
	}
	return errs
}

func portNumOrName(p intstr.IntOrString, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Type == intstr.Int {
		for _, msg := range validation.IsValidPortNum(p.IntValue()) {
			errs = append(errs, field.Invalid(at, p.IntValue(), msg))
		}
		return errs
	}
	for _, msg := range validation.IsValidPortName(p.StrVal) {
		errs = append(errs, field.Invalid(at, p.StrVal, msg))
	}
	return errs
}

func sessionAffinity(s *corev1.ServiceSpec, at *field.Path) field.ErrorList {
	errs := required(s.SessionAffinity, at.Child("sessionAffinity"), corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	config := at.Child("sessionAffinityConfig")
	switch s.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if s.SessionAffinityConfig != nil {
			errs = append(errs, field.Forbidden(config, "must not be set when session affinity is None"))
		}
	case corev1.ServiceAffinityClientIP:
		const why = "when session affinity type is ClientIP"
		c := s.SessionAffinityConfig
		switch {
		case c == nil:
			errs = append(errs, field.Required(config, why))
		case c.ClientIP == nil:
			errs = append(errs, field.Required(config.Child("clientIP"), why))
		case c.ClientIP.TimeoutSeconds == nil:
			errs = append(errs, field.Required(config.Child("clientIP", "timeoutSeconds"), why))
		case *c.ClientIP.TimeoutSeconds <= 0 || *c.ClientIP.TimeoutSeconds > maxAffinitySeconds:
			errs = append(errs, field.Invalid(config.Child("clientIP", "timeoutSeconds"), *c.ClientIP.TimeoutSeconds, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
		}
	}
	return errs
}

// serviceAddresses checks the cluster addresses and families against each other.
func serviceAddresses(s *corev1.Service, at *field.Path) field.ErrorList {
	spec := &s.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var errs field.ErrorList
	ips := at.Child("clusterIPs")
	if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
		errs = append(errs, field.Required(ips, "must be set when `clusterIP` is set"))
	}
	if len(spec.ClusterIPs) > 0 {
		switch {
		case spec.ClusterIP == "":
			errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "must be empty when `clusterIP` is not specified"))
		case spec.ClusterIPs[0] != spec.ClusterIP:
			errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "first value must match `clusterIP`"))
		}
	}
	seen := map[corev1.IPFamily]bool{}
	for i, f := range spec.IPFamilies {
		at := at.Child("ipFamilies").Index(i)
		if f != corev1.IPv4Protocol && f != corev1.IPv6Protocol {
			errs = append(errs, field.NotSupported(at, f, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}))
		}
		if seen[f] {
			errs = append(errs, field.Duplicate(at, f))
		}
		seen[f] = true
	}
	if p := spec.IPFamilyPolicy; p != nil {
		errs = append(errs, supported(*p, at.Child("ipFamilyPolicy"), corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack)...)
	}
	if len(spec.ClusterIPs) > 1 && spec.ClusterIPs[0] == corev1.ClusterIPNone {
		errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "'None' must be the first and only value"))
	}
	bad := false
	v6 := 0
	for i, ip := range spec.ClusterIPs {
		if ip == corev1.ClusterIPNone && i == 0 {
			continue
		}
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			bad = true
			errs = append(errs, validation.IsValidIPForLegacyField(ips.Index(i), ip, true, nil)...)
			continue
		}
		if addr.Is6() && !addr.Is4In6() {
			v6++
		}
		if i < len(spec.IPFamilies) {
			if want := spec.IPFamilies[i]; (want == corev1.IPv6Protocol) != (addr.Is6() && !addr.Is4In6()) {
				errs = append(errs, field.Invalid(ips.Index(i), ip, fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", want, i)))
			}
		}
	}
	if len(spec.ClusterIPs) > 2 {
		errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "may only hold up to 2 values"))
	} else if len(spec.ClusterIPs) == 2 && !bad && v6 != 1 {
		errs = append(errs, field.Invalid(ips, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
	}
	return errs
}

// EndpointIP demands an address that traffic may be sent to.
func EndpointIP(text string, at *field.Path) field.ErrorList {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return field.ErrorList{field.Invalid(at, text, "must be a valid IP address")}
	}
	var errs field.ErrorList
	if ip.IsUnspecified() {
		errs = append(errs, field.Invalid(at, text, fmt.Sprintf("may not be unspecified (%v)", text)))
	}
	if ip.IsLoopback() {
		errs = append(errs, field.Invalid(at, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
	}
	if ip.IsLinkLocalUnicast() {
		errs = append(errs, field.Invalid(at, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
	}
	if ip.IsLinkLocalMulticast() {
		errs = append(errs, field.Invalid(at, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"))
	}
	return errs
}

func loadBalancerFields(s *corev1.ServiceSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	balanced := s.Type == corev1.ServiceTypeLoadBalancer
	if len(s.LoadBalancerSourceRanges) > 0 {
		at := at.Child("LoadBalancerSourceRanges")
		if !balanced {
			errs = append(errs, field.Forbidden(at, onlyLoadBalancer))
		}
		for i, r := range s.LoadBalancerSourceRanges {
			errs = append(errs, validation.IsValidCIDRForLegacyField(at.Index(i), strings.TrimSpace(r), true, nil)...)
		}
	}
	if s.AllocateLoadBalancerNodePorts != nil && !balanced {
		errs = append(errs, field.Forbidden(at.Child("allocateLoadBalancerNodePorts"), onlyLoadBalancer))
	}
	if balanced && s.AllocateLoadBalancerNodePorts == nil {
		errs = append(errs, field.Required(at.Child("allocateLoadBalancerNodePorts"), ""))
	}
	if s.LoadBalancerClass != nil {
		if !balanced {
			return append(errs, field.Forbidden(at.Child("loadBalancerClass"), onlyLoadBalancer))
		}
		for _, msg := range validation.IsQualifiedName(*s.LoadBalancerClass) {
			errs = append(errs, field.Invalid(at.Child("loadBalancerClass"), *s.LoadBalancerClass, msg))
		}
	}
	return errs
}

// annotatedRanges are the source ranges that older clients give in an annotation.
func annotatedRanges(s *corev1.Service) field.ErrorList {
	text, ok := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]
	if !ok {
		return nil
	}
	at := metaPath.Child("annotations").Key(corev1.AnnotationLoadBalancerSourceRangesKey)
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return field.ErrorList{field.Forbidden(at, onlyLoadBalancer)}
	}
	var errs field.ErrorList
	for r := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		if text != "" {
			errs = append(errs, validation.IsValidCIDRForLegacyField(at, strings.TrimSpace(r), true, nil)...)
		}
	}
	return errs
}

func trafficPolicies(s *corev1.Service, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	if externallyAccessible(s) {
		errs = append(errs, required(spec.ExternalTrafficPolicy, at.Child("externalTrafficPolicy"), corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	} else if spec.ExternalTrafficPolicy != "" {
		errs = append(errs, field.Invalid(at.Child("externalTrafficPolicy"), spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	}
	switch port := at.Child("healthCheckNodePort"); {
	case spec.HealthCheckNodePort == 0:
	case !needsHealthCheckPort(s):
		errs = append(errs, field.Invalid(port, spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	default:
		for _, msg := range validation.IsValidPortNum(int(spec.HealthCheckNodePort)) {
			errs = append(errs, field.Invalid(port, spec.HealthCheckNodePort, msg))
		}
	}
	switch p := spec.InternalTrafficPolicy; {
	case p != nil:
		errs = append(errs, supported(*p, at.Child("internalTrafficPolicy"), corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	case needsClusterIP(s):
		errs = append(errs, required("", at.Child("internalTrafficPolicy"), corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	}
	if d := spec.TrafficDistribution; d != nil {
		errs = append(errs, supported(*d, at.Child("trafficDistribution"), corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)...)
	}
	return errs
}

func validateServiceUpdate(ctx context.Context, s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	if is, was := s.Spec.HealthCheckNodePort, old.Spec.HealthCheckNodePort; is != was && is != 0 && was != 0 && needsHealthCheckPort(s) && needsHealthCheckPort(old) {
		errs = append(errs, field.Forbidden(specPath.Child("healthCheckNodePort"), "field is immutable"))
	}
	if needsClusterIP(s) && needsClusterIP(old) && len(old.Spec.ClusterIPs) > 0 {
		at := specPath.Child("clusterIPs").Index(0)
		switch {
		case len(s.Spec.ClusterIPs) == 0:
			errs = append(errs, field.Invalid(at, s.Spec.ClusterIPs, "primary clusterIP can not be unset"))
		case s.Spec.ClusterIPs[0] != old.Spec.ClusterIPs[0] && len(serviceAddresses(s, specPath)) == 0:
			// A value that cannot be is refused as such.
			errs = append(errs, field.Invalid(at, s.Spec.ClusterIPs, "may not change once set"))
		}
		if len(old.Spec.IPFamilies) > 0 {
			at := specPath.Child("ipFamilies").Index(0)
			switch {
			case len(s.Spec.IPFamilies) == 0:
				errs = append(errs, field.Invalid(at, s.Spec.IPFamilies, "primary ipFamily can not be unset"))
			case s.Spec.IPFamilies[0] != old.Spec.IPFamilies[0] && len(serviceAddresses(s, specPath)) == 0:
				errs = append(errs, field.Invalid(at, s.Spec.IPFamilies, "may not change once set"))
			}
		}
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer {
		if is := s.Spec.LoadBalancerClass; !ptr.Equal(is, old.Spec.LoadBalancerClass) {
			errs = append(errs, field.Invalid(specPath.Child("loadBalancerClass"), is, "may not change once set"))
		}
	}
	return append(errs, validateService(ctx, s)...)
}

func validateServiceStatusUpdate(_ context.Context, s, _ *corev1.Service) field.ErrorList {
	at := statusPath.Child("loadBalancer", "ingress")
	in := s.Status.LoadBalancer.Ingress
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		if len(in) > 0 {
			return field.ErrorList{field.Forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'")}
		}
		return nil
	}
	var errs field.ErrorList
	for i, b := range in {
		at := at.Index(i)
		if b.IP != "" {
			errs = append(errs, validation.IsValidIP(at.Child("ip"), b.IP)...)
		}
		switch {
		case b.IP == "" && b.IPMode != nil:
			errs = append(errs, field.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set"))
		case b.IPMode != nil:
			errs = append(errs, supported(*b.IPMode, at.Child("ipMode"), corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP)...)
		}
		if b.Hostname != "" {
			for _, msg := range validation.IsDNS1123Subdomain(b.Hostname) {
				errs = append(errs, field.Invalid(at.Child("hostname"), b.Hostname, msg))
			}
			if _, err := netip.ParseAddr(b.Hostname); err == nil {
				errs = append(errs, field.Invalid(at.Child("hostname"), b.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
