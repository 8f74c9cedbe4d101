package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	alpha "k8s.io/api/coordination/v1alpha2"
	beta "k8s.io/api/coordination/v1beta1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/convert"
	"skiff/apiserver/resources/table"
)

func leaseCandidates() resources.Resource {
	r := resources.Kind(coordinationv1.GroupName, "LeaseCandidate", "leasecandidates", true)
	r.Hub = "v1beta1"
	hub := resources.HubVersion[beta.LeaseCandidate]("v1beta1", resources.Empty[beta.LeaseCandidateList], nil)
	hub.OffByDefault = true
	r.Versions = []resources.Version{hub, convert.Same[alpha.LeaseCandidate, beta.LeaseCandidate](
		schema.GroupVersionKind{Group: coordinationv1.GroupName, Version: "v1alpha2", Kind: "LeaseCandidate"}, "v1beta1",
		resources.Empty[alpha.LeaseCandidateList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("LeaseName", "The lease that is stood for."),
		table.Text("BinaryVersion", "The candidate's version."), table.Text("EmulationVersion", "The version it emulates."), table.Age())
	return resources.Declare(resources.Spec[beta.LeaseCandidate, *beta.LeaseCandidate]{
		Resource: r,
		Strategy: resources.TypedStrategy[beta.LeaseCandidate, *beta.LeaseCandidate]{AllowCreateOnUpdate: true},
		Row: func(o *beta.LeaseCandidate) []any {
			return []any{o.Name, o.Spec.LeaseName, o.Spec.BinaryVersion, o.Spec.EmulationVersion, table.Since(o.CreationTimestamp)}
		},
	})
}
