package controllers

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"

	"skiff/controllers/disruption"
)

// scales gives access to the scale subresource of any kind. The mapper reads
// the API's resources anew when it meets an unknown kind.
func (p parts) scales() (scale.ScalesGetter, meta.RESTMapper, error) {
	client := p.Client.Discovery()
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client))
	getter, err := scale.NewForConfig(p.rest, mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(client))
	return getter, mapper, err
}

// scaler reads the wished size of custom workloads.
func (p parts) scaler() (disruption.Scaler, error) {
	getter, mapper, err := p.scales()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, namespace string, ref metav1.OwnerReference) (int32, bool, error) {
		gv, err := schema.ParseGroupVersion(ref.APIVersion)
		if err != nil {
			return 0, false, nil
		}
		mapping, err := mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind}, gv.Version)
		if meta.IsNoMatchError(err) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, err
		}
		s, err := getter.Scales(namespace).Get(ctx, mapping.Resource.GroupResource(), ref.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			// Either the object is gone, or its kind has no size at all.
			list, err := p.Client.Discovery().ServerResourcesForGroupVersion(gv.String())
			if err == nil && !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == mapping.Resource.Resource+"/scale" }) {
				err = fmt.Errorf("%s does not implement the scale subresource", mapping.Resource.GroupResource())
			}
			return 0, false, err
		}
		if err != nil {
			return 0, false, err
		}
		return s.Spec.Replicas, s.UID == ref.UID, nil
	}, nil
}
