// Package core declares the kinds of the core group, one file each.
package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
)

// Resources are the kinds of the core group.
func Resources() []resources.Resource {
	return []resources.Resource{
		bindings(), componentStatuses(), configMaps(), endpoints(), Events(), limitRanges(),
		namespaces(), nodes(), persistentVolumeClaims(), persistentVolumes(), pods(),
		podTemplates(), replicationControllers(), resourceQuotas(), secrets(),
		serviceAccounts(), services(),
	}
}

// namespaced is the untyped part of a namespaced kind.
func namespaced(kind, plural string, short ...string) resources.Resource {
	return resources.Resource{
		Kind: kind, Plural: plural, ShortNames: short, Namespaced: true, Path: plural, Hub: "v1",
	}
}

// clusterScoped is the untyped part of a cluster-scoped kind.
func clusterScoped(kind, plural string, short ...string) resources.Resource {
	r := namespaced(kind, plural, short...)
	r.Namespaced = false
	return r
}

func v1[T any, P resources.Object[T]](newList func() runtime.Object, def func(P)) []resources.Version {
	return []resources.Version{resources.HubVersion(corev1.SchemeGroupVersion.Version, newList, def)}
}

func connect(kind string, c resources.Connector, verbs ...string) resources.Subresource {
	return resources.Subresource{Version: "v1", Kind: kind, Verbs: verbs, Connect: c}
}
