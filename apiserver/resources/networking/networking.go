// Package networking declares the kinds of networking.k8s.io.
package networking

import (
	"context"
	"fmt"
	"path"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{ingresses(), ingressClasses(), ipAddresses(), networkPolicies(), serviceCIDRs()}
}

type strategy[T any, P resources.Object[T]] = resources.TypedStrategy[T, P]

func ingresses() resources.Resource {
	r := resources.Kind(networkingv1.GroupName, "Ingress", "ingresses", true, "ing")
	r.Path = "ingress"
	r.Versions = []resources.Version{resources.HubVersion[networkingv1.Ingress]("v1", resources.Empty[networkingv1.IngressList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("Class", "The class of the ingress."), table.Text("Hosts", "The hosts that are routed."),
		table.Text("Address", "Where it is reached."), table.Text("Ports", "The ports it listens on."), table.Age())
	main, view := resources.SpecStatus(strategy[networkingv1.Ingress, *networkingv1.Ingress]{
		Generation: true, Metadata: resources.MetadataRules{NamesOnUpdate: true}, AllowUnconditionalUpdate: true,
		Validate:       func(_ context.Context, o *networkingv1.Ingress) field.ErrorList { return validateIngress(o) },
		ValidateUpdate: func(_ context.Context, o, _ *networkingv1.Ingress) field.ErrorList { return validateIngress(o) },
	}, func(o *networkingv1.Ingress) *networkingv1.IngressSpec { return &o.Spec },
		func(o *networkingv1.Ingress) *networkingv1.IngressStatus { return &o.Status })
	view.ValidateUpdate = func(_ context.Context, o, _ *networkingv1.Ingress) field.ErrorList { return ingressStatus(&o.Status) }
	return resources.Declare(resources.Spec[networkingv1.Ingress, *networkingv1.Ingress]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *networkingv1.Ingress) []any {
			class := "<none>"
			if o.Spec.IngressClassName != nil {
				class = *o.Spec.IngressClassName
			}
			ports := "80"
			if len(o.Spec.TLS) > 0 {
				ports = "80, 443"
			}
			return []any{o.Name, class, hosts(o.Spec.Rules), balancers(o.Status.LoadBalancer.Ingress), ports, table.Since(o.CreationTimestamp)}
		},
	})
}

func hosts(rules []networkingv1.IngressRule) string {
	const most = 3
	var list []string
	for _, r := range rules {
		if len(list) == most {
			return strings.Join(list, ",") + fmt.Sprintf(" + %d more...", len(rules)-most)
		}
		if r.Host != "" {
			list = append(list, r.Host)
		}
	}
	if len(list) == 0 {
		return "*"
	}
	return strings.Join(list, ",")
}

func balancers(list []networkingv1.IngressLoadBalancerIngress) string {
	var out []string
	for _, i := range list {
		if i.IP != "" {
			out = append(out, i.IP)
		} else if i.Hostname != "" {
			out = append(out, i.Hostname)
		}
	}
	return strings.Join(out, ",")
}

func validateIngress(o *networkingv1.Ingress) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	if len(o.Spec.Rules) == 0 && o.Spec.DefaultBackend == nil {
		errs = append(errs, field.Invalid(at, o.Spec.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if b := o.Spec.DefaultBackend; b != nil {
		errs = append(errs, validateBackend(b, at.Child("defaultBackend"))...)
	}
	errs = append(errs, ingressTLS(o.Spec.TLS, at.Child("tls"))...)
	if c := o.Spec.IngressClassName; c != nil {
		for _, msg := range apivalidation.NameIsDNSSubdomain(*c, false) {
			errs = append(errs, field.Invalid(at.Child("ingressClassName"), *c, msg))
		}
	}
	for i, r := range o.Spec.Rules {
		errs = append(errs, ingressHost(r.Host, at.Child("rules").Index(i).Child("host"))...)
		if r.HTTP == nil {
			continue
		}
		at := at.Child("rules").Index(i).Child("http", "paths")
		if len(r.HTTP.Paths) == 0 {
			errs = append(errs, field.Required(at, ""))
		}
		for j, p := range r.HTTP.Paths {
			at := at.Index(j)
			switch {
			case p.PathType == nil:
				errs = append(errs, field.Required(at.Child("pathType"), "pathType must be specified"))
			case *p.PathType == networkingv1.PathTypeExact || *p.PathType == networkingv1.PathTypePrefix:
				errs = append(errs, plainPath(p.Path, at.Child("path"))...)
			case *p.PathType == networkingv1.PathTypeImplementationSpecific && p.Path != "" && !strings.HasPrefix(p.Path, "/"):
				errs = append(errs, field.Invalid(at.Child("path"), p.Path, "must be an absolute path"))
			case *p.PathType != networkingv1.PathTypeImplementationSpecific:
				errs = append(errs, field.NotSupported(at.Child("pathType"), *p.PathType, []networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
			}
			errs = append(errs, validateBackend(&p.Backend, at.Child("backend"))...)
		}
	}
	return errs
}

func validateBackend(b *networkingv1.IngressBackend, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case b.Service == nil && b.Resource == nil:
		errs = append(errs, field.Invalid(at, "", "resource or service backend is required"))
	case b.Service != nil && b.Resource != nil:
		errs = append(errs, field.Invalid(at, "", "cannot set both resource and service backends"))
	case b.Resource != nil:
		errs = append(errs, localRef(b.Resource.APIGroup, b.Resource.Kind, b.Resource.Name, at.Child("resource"))...)
	case b.Service != nil:
		backend, at := at, at.Child("service")
		if b.Service.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			for _, msg := range apivalidation.NameIsDNSLabel(b.Service.Name, false) {
				errs = append(errs, field.Invalid(at.Child("name"), b.Service.Name, msg))
			}
		}
		if b.Service.Port.Name != "" {
			for _, msg := range validation.IsValidPortName(b.Service.Port.Name) {
				errs = append(errs, field.Invalid(at.Child("port", "name"), b.Service.Port.Name, msg))
			}
		}
		if n := b.Service.Port.Number; n != 0 {
			for _, msg := range validation.IsValidPortNum(int(n)) {
				errs = append(errs, field.Invalid(at.Child("port", "number"), n, msg))
			}
		}
		if b.Service.Port.Name == "" && b.Service.Port.Number == 0 {
			errs = append(errs, field.Required(backend, "port name or number is required"))
		}
		if b.Service.Port.Name != "" && b.Service.Port.Number != 0 {
			errs = append(errs, field.Invalid(at, "", "cannot set both port name & port number"))
		}
	}
	return errs
}

func ingressClasses() resources.Resource {
	r := resources.Kind(networkingv1.GroupName, "IngressClass", "ingressclasses", false)
	r.ListKind = "IngressClassList"
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[networkingv1.IngressClassList], func(o *networkingv1.IngressClass) {
		if p := o.Spec.Parameters; p != nil && p.Scope == nil {
			scope := networkingv1.IngressClassParametersReferenceScopeCluster
			p.Scope = &scope
		}
	})}
	r.Columns = table.Columns(table.Name(), table.Text("Controller", "Who serves the class."), table.Text("Parameters", "What else it needs."), table.Age())
	return resources.Declare(resources.Spec[networkingv1.IngressClass, *networkingv1.IngressClass]{
		Resource: r,
		Strategy: strategy[networkingv1.IngressClass, *networkingv1.IngressClass]{
			Generation: true, Metadata: resources.MetadataRules{NamesOnUpdate: true}, AllowUnconditionalUpdate: true,
			Validate: validateClass,
			ValidateUpdate: func(ctx context.Context, o, old *networkingv1.IngressClass) field.ErrorList {
				return append(validateClass(ctx, o), apivalidation.ValidateImmutableField(o.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller"))...)
			},
		},
		Row: func(o *networkingv1.IngressClass) []any {
			params := "<none>"
			if p := o.Spec.Parameters; p != nil {
				params = p.Kind
				if p.APIGroup != nil {
					params += "." + *p.APIGroup
				}
				params += "/" + p.Name
			}
			return []any{o.Name, o.Spec.Controller, params, table.Since(o.CreationTimestamp)}
		},
	})
}

func networkPolicies() resources.Resource {
	r := resources.Kind(networkingv1.GroupName, "NetworkPolicy", "networkpolicies", true, "netpol")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[networkingv1.NetworkPolicyList], defaultPolicy)}
	r.Columns = table.Columns(table.Name(), table.Text("Pod-Selector", "The pods it holds for."), table.Age())
	return resources.Declare(resources.Spec[networkingv1.NetworkPolicy, *networkingv1.NetworkPolicy]{
		Resource: r,
		Strategy: strategy[networkingv1.NetworkPolicy, *networkingv1.NetworkPolicy]{
			Generation: true, AllowUnconditionalUpdate: true,
			Validate:       func(_ context.Context, o *networkingv1.NetworkPolicy) field.ErrorList { return validatePolicy(o) },
			ValidateUpdate: func(_ context.Context, o, _ *networkingv1.NetworkPolicy) field.ErrorList { return validatePolicy(o) },
		},
		Row: func(o *networkingv1.NetworkPolicy) []any {
			return []any{o.Name, metav1.FormatLabelSelector(&o.Spec.PodSelector), table.Since(o.CreationTimestamp)}
		},
	})
}

func serviceCIDRs() resources.Resource {
	r := resources.Kind(networkingv1.GroupName, "ServiceCIDR", "servicecidrs", false)
	r.Versions = []resources.Version{resources.HubVersion[networkingv1.ServiceCIDR]("v1", resources.Empty[networkingv1.ServiceCIDRList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("CIDRs", "The ranges."), table.Age())
	main, view := resources.SpecStatus(strategy[networkingv1.ServiceCIDR, *networkingv1.ServiceCIDR]{
		AllowUnconditionalUpdate: true,
		Validate:                 validateServiceCIDR,
		ValidateUpdate: func(_ context.Context, o, old *networkingv1.ServiceCIDR) field.ErrorList {
			if equality.Semantic.DeepEqual(o.Spec.CIDRs, old.Spec.CIDRs) {
				return nil
			}
			return apivalidation.ValidateImmutableField(o.Spec.CIDRs, old.Spec.CIDRs, field.NewPath("spec", "cidrs"))
		},
	}, func(o *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDRSpec { return &o.Spec },
		func(o *networkingv1.ServiceCIDR) *networkingv1.ServiceCIDRStatus { return &o.Status })
	return resources.Declare(resources.Spec[networkingv1.ServiceCIDR, *networkingv1.ServiceCIDR]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *networkingv1.ServiceCIDR) []any {
			return []any{o.Name, strings.Join(o.Spec.CIDRs, ","), table.Since(o.CreationTimestamp)}
		},
	})
}

func ipAddresses() resources.Resource {
	r := resources.Kind(networkingv1.GroupName, "IPAddress", "ipaddresses", false, "ip")
	r.ListKind = "IPAddressList"
	r.Versions = []resources.Version{resources.HubVersion[networkingv1.IPAddress]("v1", resources.Empty[networkingv1.IPAddressList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("ParentRef", "What the address is for."))
	return resources.Declare(resources.Spec[networkingv1.IPAddress, *networkingv1.IPAddress]{
		Resource: r,
		Strategy: strategy[networkingv1.IPAddress, *networkingv1.IPAddress]{
			Metadata: resources.MetadataRules{NamesOnUpdate: true}, AllowUnconditionalUpdate: true, NameValidation: addressName,
			Validate: validateIPAddress,
			ValidateUpdate: func(_ context.Context, o, old *networkingv1.IPAddress) field.ErrorList {
				return apivalidation.ValidateImmutableField(o.Spec.ParentRef, old.Spec.ParentRef, field.NewPath("spec", "parentRef"))
			},
		},
		SelectableFields: map[string]func(*networkingv1.IPAddress) string{
			"spec.parentRef.name": func(o *networkingv1.IPAddress) string {
				if o.Spec.ParentRef == nil {
					return ""
				}
				return o.Spec.ParentRef.Name
			},
		},
		Row: func(o *networkingv1.IPAddress) []any {
			return []any{o.Name, parent(o.Spec.ParentRef)}
		},
	})
}

// parent names an object of any kind, with its namespace where it has one.
func parent(ref *networkingv1.ParentReference) string {
	if ref == nil {
		return ""
	}
	resource := schema.GroupResource{Group: ref.Group, Resource: ref.Resource}
	return path.Join(resource.String(), ref.Namespace, ref.Name)
}

// addressName: an address is its own name, so none can be made up from a prefix.
func addressName(name string, _ bool) []string {
	var out []string
	for _, err := range validation.IsValidIP(nil, name) {
		out = append(out, err.Detail)
	}
	return out
}
