package networking

import (
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// localRef names an object of the same namespace, or of none.
func localRef(group *string, kind, name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if group != nil {
		for _, msg := range validation.IsDNS1123Subdomain(*group) {
			errs = append(errs, field.Invalid(at.Child("apiGroup"), *group, msg))
		}
	}
	for _, part := range []struct{ child, text string }{{"kind", kind}, {"name", name}} {
		if part.text == "" {
			errs = append(errs, field.Required(at.Child(part.child), ""))
			continue
		}
		for _, msg := range path.IsValidPathSegmentName(part.text) {
			errs = append(errs, field.Invalid(at.Child(part.child), part.text, msg))
		}
	}
	return errs
}

// plainPath is absolute, and has nothing in it that servers read as another path.
func plainPath(text string, at *field.Path) field.ErrorList {
	if !strings.HasPrefix(text, "/") {
		return field.ErrorList{field.Invalid(at, text, "must be an absolute path")}
	}
	var errs field.ErrorList
	for _, bad := range []string{"//", "/./", "/../", "%2f", "%2F"} {
		if strings.Contains(text, bad) {
			errs = append(errs, field.Invalid(at, text, "must not contain '"+bad+"'"))
		}
	}
	for _, bad := range []string{"/..", "/."} {
		if strings.HasSuffix(text, bad) {
			errs = append(errs, field.Invalid(at, text, "cannot end with '"+bad+"'"))
		}
	}
	return errs
}

func ingressStatus(s *networkingv1.IngressStatus) field.ErrorList {
	var errs field.ErrorList
	for i, in := range s.LoadBalancer.Ingress {
		at := field.NewPath("status", "loadBalancer", "ingress").Index(i)
		if in.IP != "" {
			errs = append(errs, validation.IsValidIP(at.Child("ip"), in.IP)...)
		}
		if in.Hostname == "" {
			continue
		}
		for _, msg := range validation.IsDNS1123Subdomain(in.Hostname) {
			errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, msg))
		}
		if _, err := netip.ParseAddr(in.Hostname); err == nil {
			errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
		}
	}
	return errs
}
