package core

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// serviceWarnings are about what does nothing in a service, what goes out of use,
// and addresses that are not written as they should.
func serviceWarnings(_ context.Context, s, _ *corev1.Service) []string {
	spec := &s.Spec
	var out []string
	ignored := func(is bool, name, where string) {
		if is {
			out = append(out, fmt.Sprintf("spec.%s is ignored %s", name, where))
		}
	}
	const forHeadless = "for headless services"
	alone := spec.ClusterIP == corev1.ClusterIPNone
	ignored(alone && spec.LoadBalancerIP != "", "loadBalancerIP", forHeadless)
	ignored(alone && len(spec.ExternalIPs) > 0, "externalIPs", forHeadless)
	ignored(alone && spec.SessionAffinity != corev1.ServiceAffinityNone, "SessionAffinity", forHeadless)
	for i, ip := range spec.ClusterIPs {
		if ip != corev1.ClusterIPNone {
			out = append(out, validation.GetWarningsForIP(field.NewPath("spec", "clusterIPs").Index(i), ip)...)
		}
	}
	for i, ip := range spec.ExternalIPs {
		out = append(out, validation.GetWarningsForIP(field.NewPath("spec", "externalIPs").Index(i), ip)...)
	}
	if spec.LoadBalancerIP != "" {
		out = append(out, validation.GetWarningsForIP(field.NewPath("spec", "loadBalancerIP"), spec.LoadBalancerIP)...)
	}
	for i, r := range spec.LoadBalancerSourceRanges {
		out = append(out, validation.GetWarningsForCIDR(field.NewPath("spec", "loadBalancerSourceRanges").Index(i), r)...)
	}
	if spec.Type == corev1.ServiceTypeExternalName {
		ignored(len(spec.ExternalIPs) > 0, "externalIPs", `when spec.type is "ExternalName"`)
	} else {
		ignored(spec.ExternalName != "", "externalName", `when spec.type is not "ExternalName"`)
		if len(spec.ExternalIPs) > 0 && !alone {
			out = append(out, "spec.externalIPs is deprecated and may no longer be implemented in some clusters")
		}
	}
	if ptr.Deref(spec.TrafficDistribution, "") == corev1.ServiceTrafficDistributionPreferClose {
		out = append(out, `spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`)
	}
	return out
}
