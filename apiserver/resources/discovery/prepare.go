package discovery

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
)

// prepareUpdate counts what the request says, before any of it is dropped, and
// labels too: proxies find slices by them.
func prepareUpdate(_ context.Context, o, old *discoveryv1.EndpointSlice) {
	was := *old
	was.ObjectMeta, was.TypeMeta = o.ObjectMeta, o.TypeMeta
	if !equality.Semantic.DeepEqual(&was, o) || !equality.Semantic.DeepEqual(old.Labels, o.Labels) {
		o.Generation = old.Generation + 1
	}
	dropTopology(o, old)
}

// dropTopology drops a field that only the first version had: v1 reads it where it
// is stored, and takes no new one. What it said of the node stays said.
func dropTopology(o, old *discoveryv1.EndpointSlice) {
	known := map[string]bool{}
	if old != nil {
		if equality.Semantic.DeepEqual(o.Endpoints, old.Endpoints) {
			return
		}
		for _, e := range old.Endpoints {
			known[e.DeprecatedTopology[corev1.LabelHostname]] = true
		}
	}
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		if node := e.DeprecatedTopology[corev1.LabelHostname]; e.NodeName == nil && node != "" && known[node] && len(apivalidation.NameIsDNSSubdomain(node, false)) == 0 {
			e.NodeName = &node
		}
		e.DeprecatedTopology = nil
	}
}
