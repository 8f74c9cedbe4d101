// Package resource declares the kinds of resource.k8s.io.
package resource

import (
	"context"

	v1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{
		plain[v1.DeviceClass, *v1.DeviceClass]("DeviceClass", "deviceclasses", false, resources.Empty[v1.DeviceClassList], nil, classVersions(nil), validateClass),
		claims(),
		templates(), resourceSlices(), taintRules(), poolStatusRequests(),
	}
}

func templates() resources.Resource {
	r := plain[v1.ResourceClaimTemplate, *v1.ResourceClaimTemplate]("ResourceClaimTemplate", "resourceclaimtemplates", true, resources.Empty[v1.ResourceClaimTemplateList], defaultTemplate, templateVersions(), validateTemplate)
	s := &r.Strategy
	s.Generation = false
	s.Metadata.NamesOnUpdate = true
	s.PrepareForCreate = func(_ context.Context, o runtime.Object) { dropClaim(&o.(*v1.ResourceClaimTemplate).Spec.Spec, nil) }
	s.PrepareForUpdate = func(_ context.Context, o, old runtime.Object) {
		dropClaim(&o.(*v1.ResourceClaimTemplate).Spec.Spec, &old.(*v1.ResourceClaimTemplate).Spec.Spec)
	}
	return r
}

func plain[T any, P resources.Object[T]](kind, plural string, namespaced bool, list func() runtime.Object, def func(P), others []resources.Version, rule func(context.Context, P, P) field.ErrorList) resources.Resource {
	r := resources.Kind(v1.GroupName, kind, plural, namespaced)
	r.Versions = append([]resources.Version{resources.HubVersion[T, P]("v1", list, def)}, others...)
	r.Columns = table.Columns(table.Name(), table.Age())
	return resources.Declare(resources.Spec[T, P]{
		Resource: r,
		Row: func(o P) []any {
			return []any{o.GetName(), table.Since(o.GetCreationTimestamp())}
		},
		Strategy: resources.Checked(resources.TypedStrategy[T, P]{Generation: true, AllowUnconditionalUpdate: true}, rule),
	})
}

func resourceSlices() resources.Resource {
	type slice = v1.ResourceSlice
	r := resources.Kind(v1.GroupName, "ResourceSlice", "resourceslices", false)
	r.Versions = append([]resources.Version{resources.HubVersion[slice]("v1", resources.Empty[v1.ResourceSliceList], defaultSlice)}, sliceVersions()...)
	r.Columns = table.Columns(table.Name(), table.Text("Node", "The node of the devices."), table.Text("Driver", "Who offers them."), table.Text("Pool", "The pool they are of."), table.Age())
	node := func(o *slice) string {
		if o.Spec.NodeName == nil {
			return ""
		}
		return *o.Spec.NodeName
	}
	return resources.Declare(resources.Spec[slice, *slice]{
		Resource: r,
		Strategy: resources.Checked(resources.TypedStrategy[slice, *slice]{
			Generation: true, AllowUnconditionalUpdate: true,
			PrepareForCreate: func(_ context.Context, o *slice) { dropSlice(o, nil) },
			PrepareForUpdate: func(_ context.Context, o, old *slice) { dropSlice(o, old) },
		}, validateSlice),
		SelectableFields: map[string]func(*slice) string{
			"spec.nodeName": node, "spec.driver": func(o *slice) string { return o.Spec.Driver },
		},
		Row: func(o *slice) []any {
			return []any{o.Name, node(o), o.Spec.Driver, o.Spec.Pool.Name, table.Since(o.CreationTimestamp)}
		},
	})
}

func claims() resources.Resource {
	type claim = v1.ResourceClaim
	r := resources.Kind(v1.GroupName, "ResourceClaim", "resourceclaims", true)
	r.Versions = append([]resources.Version{resources.HubVersion[claim]("v1", resources.Empty[v1.ResourceClaimList], defaultClaim)}, claimVersions()...)
	r.Columns = table.Columns(table.Name(), table.Text("State", "What became of the claim."), table.Age())
	main, view := resources.SpecStatus(resources.Checked(resources.TypedStrategy[claim, *claim]{
		Metadata: resources.MetadataRules{NamesOnUpdate: true}, AllowUnconditionalUpdate: true,
		PrepareForCreate: func(_ context.Context, o *claim) { dropClaim(&o.Spec, nil) },
		PrepareForUpdate: func(_ context.Context, o, old *claim) { dropClaim(&o.Spec, &old.Spec) },
	}, validateClaim),
		func(o *claim) *v1.ResourceClaimSpec { return &o.Spec }, func(o *claim) *v1.ResourceClaimStatus { return &o.Status })
	view.ValidateUpdate = validateClaimStatus
	return resources.Declare(resources.Spec[claim, *claim]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *claim) []any {
			state := "pending"
			if o.Status.Allocation != nil {
				state = "allocated"
				if len(o.Status.ReservedFor) > 0 {
					state += ",reserved"
				}
			}
			if o.DeletionTimestamp != nil {
				state = "deleted," + state
			}
			return []any{o.Name, state, table.Since(o.CreationTimestamp)}
		},
	})
}
