package resource

import (
	v1 "k8s.io/api/resource/v1"
	alpha "k8s.io/api/resource/v1alpha3"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

func taintRules() resources.Resource {
	type rule = v1.DeviceTaintRule
	r := resources.Kind(v1.GroupName, "DeviceTaintRule", "devicetaintrules", false)
	r.Versions = append([]resources.Version{resources.HubVersion("v1", resources.Empty[v1.DeviceTaintRuleList], defaultTaintRule)}, taintRuleVersions(defaultTaintRule)...)
	main, view := resources.SpecStatus(resources.TypedStrategy[rule, *rule]{Generation: true, AllowUnconditionalUpdate: true},
		func(o *rule) *v1.DeviceTaintRuleSpec { return &o.Spec }, func(o *rule) *v1.DeviceTaintRuleStatus { return &o.Status })
	r.Columns = table.Columns(table.Name(), table.Age())
	return resources.Declare(resources.Spec[rule, *rule]{Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *rule) []any { return []any{o.Name, table.Since(o.CreationTimestamp)} }})
}

func poolStatusRequests() resources.Resource {
	type request = alpha.ResourcePoolStatusRequest
	r := resources.Kind(v1.GroupName, "ResourcePoolStatusRequest", "resourcepoolstatusrequests", false)
	r.Hub = "v1alpha3"
	hub := resources.HubVersion[request]("v1alpha3", resources.Empty[alpha.ResourcePoolStatusRequestList], nil)
	hub.OffByDefault = true
	r.Versions = []resources.Version{hub}
	main, view := resources.SpecStatus(resources.TypedStrategy[request, *request]{},
		func(o *request) *alpha.ResourcePoolStatusRequestSpec { return &o.Spec },
		func(o *request) **alpha.ResourcePoolStatusRequestStatus { return &o.Status })
	return resources.Declare(resources.Spec[request, *request]{Resource: r, Strategy: main, Views: resources.StatusView(view)})
}
