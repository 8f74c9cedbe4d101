package resource

import (
	"context"

	v1 "k8s.io/api/resource/v1"
	alpha "k8s.io/api/resource/v1alpha3"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

func taintRules() resources.Resource {
	type rule = v1.DeviceTaintRule
	r := resources.Kind(v1.GroupName, "DeviceTaintRule", "devicetaintrules", false)
	r.Versions = append([]resources.Version{resources.HubVersion("v1", resources.Empty[v1.DeviceTaintRuleList], defaultTaintRule)}, taintRuleVersions(defaultTaintRule)...)
	main, view := resources.SpecStatus(resources.Checked(resources.TypedStrategy[rule, *rule]{Generation: true}, validateTaintRule),
		func(o *rule) *v1.DeviceTaintRuleSpec { return &o.Spec }, func(o *rule) *v1.DeviceTaintRuleStatus { return &o.Status })
	view.ValidateUpdate = func(_ context.Context, o, _ *rule) field.ErrorList {
		return resources.ValidConditions(o.Status.Conditions)
	}
	r.Columns = table.Columns(table.Name(), table.Text("Key", "The taint's key."), table.Text("Value", "The taint's value."), table.Text("Effect", "What the taint does."),
		table.Text("TimeAdded", "Since when the taint is set."), table.Age())
	return resources.Declare(resources.Spec[rule, *rule]{Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *rule) []any {
			added := ""
			if t := o.Spec.Taint.TimeAdded; t != nil {
				added = table.Since(*t)
			}
			return []any{o.Name, o.Spec.Taint.Key, o.Spec.Taint.Value, string(o.Spec.Taint.Effect), added, table.Since(o.CreationTimestamp)}
		}})
}

func poolStatusRequests() resources.Resource {
	type request = alpha.ResourcePoolStatusRequest
	r := resources.Kind(v1.GroupName, "ResourcePoolStatusRequest", "resourcepoolstatusrequests", false)
	r.Hub = "v1alpha3"
	hub := resources.HubVersion[request]("v1alpha3", resources.Empty[alpha.ResourcePoolStatusRequestList], nil)
	hub.OffByDefault = true
	r.Versions = []resources.Version{hub}
	main, view := resources.SpecStatus(resources.Checked(resources.TypedStrategy[request, *request]{}, func(_ context.Context, o, old *request) field.ErrorList {
		errs := podspec.CSIDriverName(o.Spec.Driver, specPath.Child("driver"))
		if o.Spec.PoolName != nil {
			errs = append(errs, poolName(*o.Spec.PoolName, specPath.Child("poolName"))...)
		}
		if n := o.Spec.Limit; n != nil && (*n < 1 || *n > 1000) {
			errs = append(errs, field.Invalid(specPath.Child("limit"), *n, validation.InclusiveRangeError(1, 1000)))
		}
		if old != nil {
			errs = append(errs, apivalidation.ValidateImmutableField(o.Spec, old.Spec, specPath)...)
		}
		return errs
	}),
		func(o *request) *alpha.ResourcePoolStatusRequestSpec { return &o.Spec },
		func(o *request) **alpha.ResourcePoolStatusRequestStatus { return &o.Status })
	r.Columns = table.Columns(table.Name(), table.Text("Driver", "The driver of the pools."), table.Text("Total", "All devices."), table.Text("Available", "Devices that can be had."),
		table.Text("Allocated", "Devices in use."), table.Text("Unavailable", "Devices that cannot be had."), table.Text("Errors", "Pools that cannot be told of."),
		table.Int("Pools", "How many pools there are."), table.Text("Status", "How far the request is."), table.Text("Completed", "When it was answered."))
	return resources.Declare(resources.Spec[request, *request]{Resource: r, Strategy: main, Views: resources.StatusView(view), Row: poolStatusRow})
}
