// Package discovery declares the kinds of discovery.k8s.io.
package discovery

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{endpointSlices()}
}

func endpointSlices() resources.Resource {
	r := resources.Kind(discoveryv1.GroupName, "EndpointSlice", "endpointslices", true)
	r.Versions = []resources.Version{resources.HubVersion[discoveryv1.EndpointSlice]("v1", resources.Empty[discoveryv1.EndpointSliceList], defaultSlice)}
	r.Columns = table.Columns(table.Name(), table.Text("AddressType", "The family of the addresses."), table.Text("Ports", "The ports of the endpoints."), table.Text("Endpoints", "The addresses."), table.Age())
	return resources.Declare(resources.Spec[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice]{
		Resource: r,
		Strategy: resources.TypedStrategy[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice]{
			Metadata: resources.MetadataRules{NamesOnUpdate: true}, AllowUnconditionalUpdate: true, Generation: true,
			PrepareForCreate: func(_ context.Context, o *discoveryv1.EndpointSlice) { dropTopology(o) },
			PrepareForUpdate: func(_ context.Context, o, old *discoveryv1.EndpointSlice) {
				if !hasTopology(old) {
					dropTopology(o)
				}
			},
			Validate: validateSlice,
			ValidateUpdate: func(ctx context.Context, o, old *discoveryv1.EndpointSlice) field.ErrorList {
				return append(validateSlice(ctx, o), apivalidation.ValidateImmutableField(o.AddressType, old.AddressType, field.NewPath("addressType"))...)
			},
			Warnings: func(_ context.Context, o, old *discoveryv1.EndpointSlice) []string {
				if old == nil && o.AddressType == discoveryv1.AddressTypeFQDN {
					return []string{"spec.addressType: FQDN endpoints are deprecated"}
				}
				return nil
			},
		},
		Row: func(o *discoveryv1.EndpointSlice) []any {
			return []any{o.Name, string(o.AddressType), ports(o.Ports), addresses(o.Endpoints), table.Since(o.CreationTimestamp)}
		},
	})
}

func defaultSlice(o *discoveryv1.EndpointSlice) {
	for i := range o.Ports {
		p := &o.Ports[i]
		if p.Name == nil {
			p.Name = ptr.To("")
		}
		if p.Protocol == nil {
			p.Protocol = ptr.To(corev1.ProtocolTCP)
		}
	}
}

// dropTopology drops a field that only the first version had: v1 reads it where it
// is stored, and takes no new one.
func dropTopology(o *discoveryv1.EndpointSlice) {
	for i := range o.Endpoints {
		o.Endpoints[i].DeprecatedTopology = nil
	}
}

func hasTopology(o *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(o.Endpoints, func(e discoveryv1.Endpoint) bool { return len(e.DeprecatedTopology) > 0 })
}

func validateSlice(_ context.Context, o *discoveryv1.EndpointSlice) field.ErrorList {
	var errs field.ErrorList
	switch o.AddressType {
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN:
	case "":
		errs = append(errs, field.Required(field.NewPath("addressType"), ""))
	default:
		errs = append(errs, field.NotSupported(field.NewPath("addressType"), o.AddressType, []discoveryv1.AddressType{discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}))
	}
	if n := len(o.Endpoints); n > 1000 {
		errs = append(errs, field.TooMany(field.NewPath("endpoints"), n, 1000))
	}
	for i, e := range o.Endpoints {
		errs = append(errs, endpoint(&e, field.NewPath("endpoints").Index(i))...)
		at := field.NewPath("endpoints").Index(i).Child("addresses")
		if n := len(e.Addresses); n > 100 {
			errs = append(errs, field.TooMany(at, n, 100))
		}
		if len(e.Addresses) == 0 {
			errs = append(errs, field.Required(at, ""))
		}
		for j, a := range e.Addresses {
			switch o.AddressType {
			case discoveryv1.AddressTypeIPv4:
				errs = append(errs, family(at.Index(j), a, false)...)
			case discoveryv1.AddressTypeIPv6:
				errs = append(errs, family(at.Index(j), a, true)...)
			case discoveryv1.AddressTypeFQDN:
				errs = append(errs, validation.IsFullyQualifiedDomainName(at.Index(j), a)...)
			}
		}
	}
	if n := len(o.Ports); n > 20000 {
		errs = append(errs, field.TooMany(field.NewPath("ports"), n, 20000))
	}
	names := map[string]bool{}
	for i, p := range o.Ports {
		at := field.NewPath("ports").Index(i)
		if name := ptr.Deref(p.Name, ""); names[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
		} else {
			names[name] = true
			if name != "" {
				for _, msg := range validation.IsDNS1123Label(name) {
					errs = append(errs, field.Invalid(at.Child("name"), p.Name, msg))
				}
			}
		}
		switch protocol := ptr.Deref(p.Protocol, ""); protocol {
		case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		case "":
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		default:
			errs = append(errs, field.NotSupported(at.Child("protocol"), protocol, []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}))
		}
		if p.AppProtocol != nil {
			for _, msg := range validation.IsQualifiedName(*p.AppProtocol) {
				errs = append(errs, field.Invalid(at.Child("appProtocol"), *p.AppProtocol, msg))
			}
		}
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
	return append(errs, hints(nodes, func(name string) []string { return apivalidation.NameIsDNSSubdomain(name, false) }, at.Child("forNodes"))...)
}

// mostHints is how many zones or nodes an endpoint may be meant for.
const mostHints = 8

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
			continue
		}
		seen[name] = true
		for _, msg := range rule(name) {
			errs = append(errs, field.Invalid(at, name, msg))
		}
	}
	return errs
}

// most is how many ports and addresses a cell shows.
const most = 3

func ports(list []discoveryv1.EndpointPort) string {
	if len(list) == 0 {
		return "<unset>"
	}
	var out []string
	for i, p := range list {
		if i == most {
			return strings.Join(out, ",") + fmt.Sprintf(" + %d more...", len(list)-most)
		}
		switch {
		case p.Port != nil:
			out = append(out, fmt.Sprint(*p.Port))
		case ptr.Deref(p.Name, "") != "":
			out = append(out, *p.Name)
		}
	}
	return strings.Join(out, ",")
}

func addresses(list []discoveryv1.Endpoint) string {
	var all []string
	for _, e := range list {
		all = append(all, e.Addresses...)
	}
	switch {
	case len(all) == 0:
		return "<unset>"
	case len(all) > most:
		return strings.Join(all[:most], ",") + fmt.Sprintf(" + %d more...", len(all)-most)
	}
	return strings.Join(all, ",")
}

// family demands an address of one family that is no one's alone.
func family(at *field.Path, text string, v6 bool) field.ErrorList {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil || a.Is4() == v6:
		name := "IPv4"
		if v6 {
			name = "IPv6"
		}
		return field.ErrorList{field.Invalid(at, text, "must be a valid "+name+" address")}
	case a.IsUnspecified():
		return field.ErrorList{field.Invalid(at, text, "may not be unspecified (0.0.0.0 or ::)")}
	case a.IsLoopback():
		return field.ErrorList{field.Invalid(at, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)")}
	case a.IsLinkLocalUnicast():
		return field.ErrorList{field.Invalid(at, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")}
	case a.IsLinkLocalMulticast():
		return field.ErrorList{field.Invalid(at, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")}
	}
	return nil
}
