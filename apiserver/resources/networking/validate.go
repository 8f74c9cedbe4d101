package networking

import (
	"context"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"
)

func ingressHost(host string, at *field.Path) field.ErrorList {
	if host == "" {
		return nil
	}
	var errs field.ErrorList
	// Leading zeros make it no less of an address.
	if netutils.ParseIPSloppy(host) != nil {
		errs = append(errs, field.Invalid(at, host, "must be a DNS name, not an IP address"))
	}
	msgs := validation.IsDNS1123Subdomain(host)
	if strings.Contains(host, "*") {
		msgs = validation.IsWildcardDNS1123Subdomain(host)
	}
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(at, host, msg))
	}
	return errs
}

func ingressTLS(list []networkingv1.IngressTLS, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, t := range list {
		at := at.Index(i)
		for j, h := range t.Hosts {
			msgs := validation.IsDNS1123Subdomain(h)
			if strings.Contains(h, "*") {
				msgs = validation.IsWildcardDNS1123Subdomain(h)
			}
			for _, msg := range msgs {
				errs = append(errs, field.Invalid(at.Child("hosts").Index(j), h, msg))
			}
		}
		if t.SecretName != "" {
			for _, msg := range apivalidation.NameIsDNSSubdomain(t.SecretName, false) {
				errs = append(errs, field.Invalid(at.Child("secretName"), t.SecretName, msg))
			}
		}
	}
	return errs
}

func validateClass(_ context.Context, o *networkingv1.IngressClass) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	if len(o.Spec.Controller) > 250 {
		errs = append(errs, field.TooLong(at.Child("controller"), "", 250))
	}
	errs = append(errs, validation.IsDomainPrefixedPath(at.Child("controller"), o.Spec.Controller)...)
	p := o.Spec.Parameters
	if p == nil {
		return errs
	}
	at = at.Child("parameters")
	errs = append(errs, localRef(p.APIGroup, p.Kind, p.Name, at)...)
	scope, ns := ptr.Deref(p.Scope, ""), ptr.Deref(p.Namespace, "")
	switch scope {
	case "":
		errs = append(errs, field.Required(at.Child("scope"), ""))
	case networkingv1.IngressClassParametersReferenceScopeNamespace:
		if ns == "" {
			errs = append(errs, field.Required(at.Child("namespace"), "`parameters.scope` is set to 'Namespace'"))
		} else {
			for _, msg := range validation.IsDNS1123Label(ns) {
				errs = append(errs, field.Invalid(at.Child("namespace"), ns, msg))
			}
		}
	case networkingv1.IngressClassParametersReferenceScopeCluster:
		if p.Namespace != nil {
			errs = append(errs, field.Forbidden(at.Child("namespace"), "`parameters.scope` is set to 'Cluster'"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("scope"), scope, []string{networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace}))
	}
	return errs
}

func validateIPAddress(_ context.Context, o *networkingv1.IPAddress) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec", "parentRef")
	p := o.Spec.ParentRef
	switch {
	case p == nil:
		errs = append(errs, field.Required(at, ""))
	default:
		if p.Resource == "" {
			errs = append(errs, field.Required(at.Child("resource"), ""))
		}
		if p.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		if p.Group != "" {
			for _, msg := range validation.IsDNS1123Subdomain(p.Group) {
				errs = append(errs, field.Invalid(at.Child("group"), p.Group, msg))
			}
		}
		for _, part := range []struct{ name, value string }{{"resource", p.Resource}, {"name", p.Name}, {"namespace", p.Namespace}} {
			for _, msg := range path.IsValidPathSegmentName(part.value) {
				errs = append(errs, field.Invalid(at.Child(part.name), part.value, msg))
			}
		}
	}
	return errs
}

func validateServiceCIDR(_ context.Context, o *networkingv1.ServiceCIDR) field.ErrorList {
	at := field.NewPath("spec", "cidrs")
	if len(o.Spec.CIDRs) == 0 {
		return field.ErrorList{field.Required(at, "at least one CIDR required")}
	}
	if len(o.Spec.CIDRs) > 2 {
		return field.ErrorList{field.Invalid(at, o.Spec.CIDRs, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	v6 := 0
	for i, c := range o.Spec.CIDRs {
		bad := validation.IsValidCIDR(at.Index(i), c)
		errs = append(errs, bad...)
		if p, err := netip.ParsePrefix(c); err == nil && p.Addr().Is6() {
			v6++
		}
	}
	if len(errs) == 0 && len(o.Spec.CIDRs) == 2 && v6 != 1 {
		errs = append(errs, field.Invalid(at, o.Spec.CIDRs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96"))
	}
	return errs
}
