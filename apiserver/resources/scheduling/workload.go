package scheduling

import (
	schedulingv1 "k8s.io/api/scheduling/v1"
	alpha "k8s.io/api/scheduling/v1alpha3"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
)

func alphaKind[T any, P resources.Object[T]](kind, plural string, list func() runtime.Object) resources.Resource {
	r := resources.Kind(schedulingv1.GroupName, kind, plural, true)
	r.Hub = "v1alpha3"
	hub := resources.HubVersion[T, P]("v1alpha3", list, nil)
	hub.OffByDefault = true
	r.Versions = []resources.Version{hub}
	return r
}

func workloads() resources.Resource {
	return resources.Declare(resources.Spec[alpha.Workload, *alpha.Workload]{
		Resource: alphaKind[alpha.Workload]("Workload", "workloads", resources.Empty[alpha.WorkloadList]),
		Strategy: resources.TypedStrategy[alpha.Workload, *alpha.Workload]{Generation: true, AllowUnconditionalUpdate: true},
	})
}

func podGroups() resources.Resource {
	main, view := resources.SpecStatus(resources.TypedStrategy[alpha.PodGroup, *alpha.PodGroup]{Generation: true, AllowUnconditionalUpdate: true},
		func(o *alpha.PodGroup) *alpha.PodGroupSpec { return &o.Spec }, func(o *alpha.PodGroup) *alpha.PodGroupStatus { return &o.Status })
	return resources.Declare(resources.Spec[alpha.PodGroup, *alpha.PodGroup]{
		Resource: alphaKind[alpha.PodGroup]("PodGroup", "podgroups", resources.Empty[alpha.PodGroupList]),
		Strategy: main, Views: resources.StatusView(view),
	})
}

func compositePodGroups() resources.Resource {
	main, view := resources.SpecStatus(resources.TypedStrategy[alpha.CompositePodGroup, *alpha.CompositePodGroup]{Generation: true, AllowUnconditionalUpdate: true},
		func(o *alpha.CompositePodGroup) *alpha.CompositePodGroupSpec { return &o.Spec },
		func(o *alpha.CompositePodGroup) *alpha.CompositePodGroupStatus { return &o.Status })
	return resources.Declare(resources.Spec[alpha.CompositePodGroup, *alpha.CompositePodGroup]{
		Resource: alphaKind[alpha.CompositePodGroup]("CompositePodGroup", "compositepodgroups", resources.Empty[alpha.CompositePodGroupList]),
		Strategy: main, Views: resources.StatusView(view),
	})
}
