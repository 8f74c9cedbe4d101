package discovery

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources/core"
)

// Bounds of a slice. mostHints is how many zones or nodes an endpoint may be meant for.
const (
	mostEndpoints = 1000
	mostAddresses = 100
	mostPorts     = 20000
	mostTopology  = 16
	mostHints     = 8
)

// validateSlice forgives endpoints that are stored: they may be older than the rules.
func validateSlice(o, old *discoveryv1.EndpointSlice) field.ErrorList {
	var errs field.ErrorList
	switch o.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
	case "":
		errs = append(errs, field.Required(field.NewPath("addressType"), ""))
	default:
		errs = append(errs, field.NotSupported(field.NewPath("addressType"), o.AddressType, []discoveryv1.AddressType{discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}))
	}
	errs = append(errs, portRules(o.Ports, field.NewPath("ports"))...)
	bad := endpoints(o.Endpoints, o.AddressType, field.NewPath("endpoints"))
	if len(bad) > 0 && old != nil && equality.Semantic.DeepEqual(o.Endpoints, old.Endpoints) {
		return errs
	}
	return append(errs, bad...)
}

func validateSliceUpdate(_ context.Context, o, old *discoveryv1.EndpointSlice) field.ErrorList {
	return append(validateSlice(o, old), apivalidation.ValidateImmutableField(o.AddressType, old.AddressType, field.NewPath("addressType"))...)
}

func portRules(list []discoveryv1.EndpointPort, at *field.Path) field.ErrorList {
	if n := len(list); n > mostPorts {
		return field.ErrorList{field.TooMany(at, n, mostPorts)}
	}
	var errs field.ErrorList
	names := map[string]bool{}
	for i, p := range list {
		at := at.Index(i)
		name := ptr.Deref(p.Name, "")
		if name != "" {
			for _, msg := range validation.IsDNS1123Label(name) {
				errs = append(errs, field.Invalid(at.Child("name"), name, msg))
			}
		}
		if names[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
		}
		names[name] = true
		switch {
		case p.Protocol == nil:
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		case *p.Protocol != corev1.ProtocolTCP && *p.Protocol != corev1.ProtocolUDP && *p.Protocol != corev1.ProtocolSCTP:
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}))
		}
		if p.AppProtocol != nil {
			for _, msg := range validation.IsQualifiedName(*p.AppProtocol) {
				errs = append(errs, field.Invalid(at.Child("appProtocol"), *p.AppProtocol, msg))
			}
		}
	}
	return errs
}

func endpoints(list []discoveryv1.Endpoint, kind discoveryv1.AddressType, at *field.Path) field.ErrorList {
	if n := len(list); n > mostEndpoints {
		return field.ErrorList{field.TooMany(at, n, mostEndpoints)}
	}
	var errs field.ErrorList
	for i := range list {
		e, at := &list[i], at.Index(i)
		errs = append(errs, addressRules(e.Addresses, kind, at.Child("addresses"))...)
		errs = append(errs, endpoint(e, at)...)
	}
	return errs
}

// addressRules know the kinds of addresses; those of another are not looked at.
func addressRules(list []string, kind discoveryv1.AddressType, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch n := len(list); {
	case n == 0:
		errs = append(errs, field.Required(at, ""))
	case n > mostAddresses:
		errs = append(errs, field.TooMany(at, n, mostAddresses))
	}
	for i, a := range list {
		at, all := at.Index(i), at
		var bad field.ErrorList
		switch kind {
		case discoveryv1.AddressTypeIPv4:
			if bad = validation.IsValidIPForLegacyField(at, a, true, nil); len(bad) == 0 && !netutils.IsIPv4String(a) {
				errs = append(errs, field.Invalid(all, a, "must be an IPv4 address"))
			}
		case discoveryv1.AddressTypeIPv6:
			if bad = validation.IsValidIP(at, a); len(bad) == 0 && !netutils.IsIPv6String(a) {
				errs = append(errs, field.Invalid(all, a, "must be an IPv6 address"))
			}
		case discoveryv1.AddressTypeFQDN:
			errs = append(errs, validation.IsFullyQualifiedDomainName(at, a)...)
			continue
		default:
			continue
		}
		if len(bad) == 0 {
			bad = core.EndpointIP(a, at)
		}
		errs = append(errs, bad...)
	}
	return errs
}

// endpoint is all of an endpoint but its addresses.
func endpoint(e *discoveryv1.Endpoint, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if e.NodeName != nil {
		for _, msg := range apivalidation.NameIsDNSSubdomain(*e.NodeName, false) {
			errs = append(errs, field.Invalid(at.Child("nodeName"), *e.NodeName, msg))
		}
	}
	topology := at.Child("deprecatedTopology")
	if n := len(e.DeprecatedTopology); n > mostTopology {
		errs = append(errs, field.TooMany(topology, n, mostTopology))
	}
	errs = append(errs, unversioned.ValidateLabels(e.DeprecatedTopology, topology)...)
	if h := e.Hostname; h != nil {
		for _, msg := range validation.IsDNS1123Label(*h) {
			errs = append(errs, field.Invalid(at.Child("hostname"), *h, msg))
		}
	}
	if e.Hints == nil {
		return errs
	}
	at = at.Child("hints")
	zones, nodes := make([]string, len(e.Hints.ForZones)), make([]string, len(e.Hints.ForNodes))
	for i, z := range e.Hints.ForZones {
		zones[i] = z.Name
	}
	for i, n := range e.Hints.ForNodes {
		nodes[i] = n.Name
	}
	errs = append(errs, hints(zones, validation.IsValidLabelValue, at.Child("forZones"))...)
	if len(zones) > mostHints {
		return errs
	}
	return append(errs, hints(nodes, func(name string) []string { return apivalidation.NameIsDNSSubdomain(name, false) }, at.Child("forNodes"))...)
}

func hints(names []string, rule func(string) []string, at *field.Path) field.ErrorList {
	if n := len(names); n > mostHints {
		return field.ErrorList{field.TooMany(at, n, mostHints)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, name := range names {
		at := at.Index(i).Child("name")
		if seen[name] {
			errs = append(errs, field.Duplicate(at, name))
		}
		seen[name] = true
		for _, msg := range rule(name) {
			errs = append(errs, field.Invalid(at, name, msg))
		}
	}
	return errs
}

// warnings are of addresses that are written in odd ways. Those of the controllers
// are not, and are many.
func warnings(_ context.Context, o, old *discoveryv1.EndpointSlice) []string {
	var out []string
	if old == nil && o.AddressType == discoveryv1.AddressTypeFQDN {
		out = append(out, "spec.addressType: FQDN endpoints are deprecated")
	}
	switch o.Labels[discoveryv1.LabelManagedBy] {
	case "endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io":
		return out
	}
	for i, e := range o.Endpoints {
		for j, a := range e.Addresses {
			out = append(out, validation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), a)...)
		}
	}
	return out
}
