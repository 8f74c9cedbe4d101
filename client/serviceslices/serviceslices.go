// Package serviceslices finds the EndpointSlices of a Service without a look at those
// of its whole namespace.
package serviceslices

import (
	"fmt"

	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

const byService = "service"

// Index has an informer of EndpointSlices answer Of. All who share the informer may
// ask for it.
func Index(informer cache.SharedIndexInformer) error {
	if _, ok := informer.GetIndexer().GetIndexers()[byService]; ok {
		return nil
	}
	err := informer.AddIndexers(cache.Indexers{byService: func(obj any) ([]string, error) {
		if name, ok := ServiceOf(obj); ok {
			return []string{name.String()}, nil
		}
		return nil, nil
	}})
	if err != nil {
		return fmt.Errorf("index EndpointSlices: %w", err)
	}
	return nil
}

// ServiceOf is the Service that a slice belongs to.
func ServiceOf(obj any) (types.NamespacedName, bool) {
	s, ok := obj.(*discovery.EndpointSlice)
	if !ok || s.Labels[discovery.LabelServiceName] == "" {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discovery.LabelServiceName]}, true
}

// Of are a Service's slices. The list is the caller's; the objects are shared and must
// not be changed.
func Of(informer cache.SharedIndexInformer, service types.NamespacedName) ([]*discovery.EndpointSlice, error) {
	found, err := informer.GetIndexer().ByIndex(byService, service.String())
	if err != nil {
		return nil, err
	}
	out := make([]*discovery.EndpointSlice, 0, len(found))
	for _, obj := range found {
		if s, ok := obj.(*discovery.EndpointSlice); ok {
			out = append(out, s)
		}
	}
	return out, nil
}

// Managed are those that a manager keeps.
func Managed(informer cache.SharedIndexInformer, service types.NamespacedName, manager string) ([]*discovery.EndpointSlice, error) {
	all, err := Of(informer, service)
	out := all[:0]
	for _, s := range all {
		if s.Labels[discovery.LabelManagedBy] == manager {
			out = append(out, s)
		}
	}
	return out, err
}
