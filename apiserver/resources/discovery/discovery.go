// Package discovery declares the kinds of discovery.k8s.io.
package discovery

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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
			PrepareForCreate: func(_ context.Context, o *discoveryv1.EndpointSlice) { dropTopology(o, nil) },
			PrepareForUpdate: prepareUpdate, GenerationChanged: func(_, _ *discoveryv1.EndpointSlice) bool { return false },
			Validate:       func(_ context.Context, o *discoveryv1.EndpointSlice) field.ErrorList { return validateSlice(o, nil) },
			ValidateUpdate: validateSliceUpdate,
			Warnings:       warnings,
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
