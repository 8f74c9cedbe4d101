package scheduling

import (
	"context"

	schedulingv1 "k8s.io/api/scheduling/v1"
	alpha "k8s.io/api/scheduling/v1alpha3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

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

// features are off, and the shipped rules ask about them.
func features() []string {
	return []string{"CompositePodGroup", "PodGroupPreemptionPolicy", "TopologyAwareWorkloadScheduling"}
}

// shipped gives a strategy the rules that come with its kind.
func shipped[T any, P resources.Object[T]](s resources.TypedStrategy[T, P], rules resources.Rules[T]) resources.TypedStrategy[T, P] {
	return resources.Checked(s, func(ctx context.Context, o, old P) field.ErrorList {
		return resources.Declared(ctx, rules, nil, (*T)(o), (*T)(old), features()...)
	})
}

func workloads() resources.Resource {
	return resources.Declare(resources.Spec[alpha.Workload, *alpha.Workload]{
		Resource: alphaKind[alpha.Workload]("Workload", "workloads", resources.Empty[alpha.WorkloadList]),
		Strategy: shipped(resources.TypedStrategy[alpha.Workload, *alpha.Workload]{Generation: true, AllowUnconditionalUpdate: true}, alpha.Validate_Workload),
	})
}

func podGroups() resources.Resource {
	main, view := resources.SpecStatus(shipped(resources.TypedStrategy[alpha.PodGroup, *alpha.PodGroup]{Generation: true, AllowUnconditionalUpdate: true}, alpha.Validate_PodGroup),
		func(o *alpha.PodGroup) *alpha.PodGroupSpec { return &o.Spec }, func(o *alpha.PodGroup) *alpha.PodGroupStatus { return &o.Status })
	view.ValidateUpdate = func(ctx context.Context, o, old *alpha.PodGroup) field.ErrorList {
		return append(resources.Declared(ctx, alpha.Validate_PodGroupStatus, field.NewPath("status"), &o.Status, &old.Status, features()...), resources.ValidConditions(o.Status.Conditions)...)
	}
	return resources.Declare(resources.Spec[alpha.PodGroup, *alpha.PodGroup]{
		Resource: alphaKind[alpha.PodGroup]("PodGroup", "podgroups", resources.Empty[alpha.PodGroupList]),
		Strategy: main, Views: resources.StatusView(view),
	})
}

func compositePodGroups() resources.Resource {
	main, view := resources.SpecStatus(shipped(resources.TypedStrategy[alpha.CompositePodGroup, *alpha.CompositePodGroup]{Generation: true, AllowUnconditionalUpdate: true}, alpha.Validate_CompositePodGroup),
		func(o *alpha.CompositePodGroup) *alpha.CompositePodGroupSpec { return &o.Spec },
		func(o *alpha.CompositePodGroup) *alpha.CompositePodGroupStatus { return &o.Status })
	view.ValidateUpdate = func(ctx context.Context, o, old *alpha.CompositePodGroup) field.ErrorList {
		return append(resources.Declared(ctx, alpha.Validate_CompositePodGroupStatus, field.NewPath("status"), &o.Status, &old.Status, features()...), resources.ValidConditions(o.Status.Conditions)...)
	}
	return resources.Declare(resources.Spec[alpha.CompositePodGroup, *alpha.CompositePodGroup]{
		Resource: alphaKind[alpha.CompositePodGroup]("CompositePodGroup", "compositepodgroups", resources.Empty[alpha.CompositePodGroupList]),
		Strategy: main, Views: resources.StatusView(view),
	})
}
