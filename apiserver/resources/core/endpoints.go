package core

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

func endpoints() resources.Resource {
	r := namespaced("Endpoints", "endpoints", "ep")
	r.Path = "services/endpoints"
	r.Versions = v1(func() runtime.Object { return &corev1.EndpointsList{} }, endpointsDefaults)
	r.Versions[0].Deprecated = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
	r.Columns = table.Columns(table.Name(), table.Text("Endpoints", "The addresses and ports of the sets."), table.Age())
	return resources.Declare(resources.Spec[corev1.Endpoints, *corev1.Endpoints]{
		Resource: r,
		Strategy: resources.TypedStrategy[corev1.Endpoints, *corev1.Endpoints]{
			AllowCreateOnUpdate:      true,
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			Validate:                 validateEndpoints, ValidateUpdate: validateEndpointsUpdate,
			Warnings: endpointsWarnings,
		},
		Row: func(e *corev1.Endpoints) []any {
			return []any{e.Name, formatEndpoints(e.Subsets), table.Since(e.CreationTimestamp)}
		},
	})
}

func endpointsDefaults(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			if p := &e.Subsets[i].Ports[j]; p.Protocol == "" {
				p.Protocol = corev1.ProtocolTCP
			}
		}
	}
}

// formatEndpoints shows the first three address:port pairs.
func formatEndpoints(subsets []corev1.EndpointSubset) string {
	if len(subsets) == 0 {
		return "<none>"
	}
	const most = 3
	var shown []string
	more, count := false, 0
	for _, s := range subsets {
		if len(s.Ports) == 0 {
			for _, a := range s.Addresses {
				if len(shown) == most {
					more = true
				} else {
					shown = append(shown, a.IP)
				}
				count++
			}
			continue
		}
		for _, p := range s.Ports {
			for _, a := range s.Addresses {
				if len(shown) == most {
					more = true
				} else {
					shown = append(shown, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
				}
				count++
			}
		}
	}
	text := strings.Join(shown, ",")
	if more {
		return fmt.Sprintf("%s + %d more...", text, count-most)
	}
	if text == "" {
		return "<none>"
	}
	return text
}
