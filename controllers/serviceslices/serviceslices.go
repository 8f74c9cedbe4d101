// Package serviceslices finds the EndpointSlices of a Service without a look at those
// of its whole namespace.
package serviceslices

import (
	"fmt"

	discovery "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/controllers/loop"
)

const byService = "service"

// Index has an informer of EndpointSlices answer Of.
func Index(informer cache.SharedIndexInformer) error {
	err := loop.Index(informer, byService, func(obj any) ([]string, error) {
		s, ok := obj.(*discovery.EndpointSlice)
		if !ok || s.Labels[discovery.LabelServiceName] == "" {
			return nil, nil
		}
		return []string{s.Namespace + "/" + s.Labels[discovery.LabelServiceName]}, nil
	})
	if err != nil {
		return fmt.Errorf("index EndpointSlices: %w", err)
	}
	return nil
}

// Of are a Service's slices that a manager keeps.
func Of(informer cache.SharedIndexInformer, namespace, service, manager string) ([]*discovery.EndpointSlice, error) {
	all, err := loop.ByIndex[*discovery.EndpointSlice](informer, byService, namespace+"/"+service)
	if err != nil {
		return nil, err
	}
	out := all[:0]
	for _, s := range all {
		if s.Labels[discovery.LabelManagedBy] == manager {
			out = append(out, s)
		}
	}
	return out, nil
}
