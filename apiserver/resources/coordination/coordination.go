// Package coordination declares the kinds of coordination.k8s.io.
package coordination

import (
	"context"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{leases(), leaseCandidates()}
}

func leases() resources.Resource {
	r := resources.Kind(coordinationv1.GroupName, "Lease", "leases", true)
	r.Versions = []resources.Version{resources.HubVersion[coordinationv1.Lease]("v1", resources.Empty[coordinationv1.LeaseList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("Holder", "Who holds the lease."), table.Age())
	return resources.Declare(resources.Spec[coordinationv1.Lease, *coordinationv1.Lease]{
		Resource: r,
		Strategy: resources.TypedStrategy[coordinationv1.Lease, *coordinationv1.Lease]{Metadata: resources.MetadataRules{AnyFinalizer: true}, AllowCreateOnUpdate: true,
			PrepareForCreate: func(_ context.Context, o *coordinationv1.Lease) { dropElection(o, &coordinationv1.Lease{}) },
			PrepareForUpdate: func(_ context.Context, o, old *coordinationv1.Lease) { dropElection(o, old) },
			Validate:         validateLease, ValidateUpdate: func(ctx context.Context, o, _ *coordinationv1.Lease) field.ErrorList { return validateLease(ctx, o) }},
		Row: func(o *coordinationv1.Lease) []any {
			holder := ""
			if o.Spec.HolderIdentity != nil {
				holder = *o.Spec.HolderIdentity
			}
			return []any{o.Name, holder, table.Since(o.CreationTimestamp)}
		},
	})
}

// dropElection clears what coordinated elections write: the feature is off.
func dropElection(o, old *coordinationv1.Lease) {
	if old.Spec.Strategy == nil {
		o.Spec.Strategy = nil
	}
	if old.Spec.PreferredHolder == nil {
		o.Spec.PreferredHolder = nil
	}
}

func validateLease(_ context.Context, o *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	if d := o.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(at.Child("leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := o.Spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(at.Child("leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	s := &o.Spec
	if s.Strategy != nil {
		errs = append(errs, strategyName(*s.Strategy, at.Child("strategy"))...)
	}
	if p := ptr.Deref(s.PreferredHolder, ""); p != "" {
		if s.Strategy == nil || *s.Strategy == "" {
			errs = append(errs, field.Forbidden(at.Child("preferredHolder"), "may only be specified if `strategy` is defined"))
		}
	}
	return errs
}

// strategyName is one of upstream's, or one with a domain.
func strategyName(s coordinationv1.CoordinatedLeaseStrategy, at *field.Path) field.ErrorList {
	if s == coordinationv1.OldestEmulationVersion {
		return nil
	}
	parts := strings.Split(string(s), "/")
	if len(parts) != 2 {
		return field.ErrorList{field.Invalid(at, s, "must be one of OldestEmulationVersion, or a domain-prefixed name")}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(s)) {
		errs = append(errs, field.Invalid(at, s, msg))
	}
	return errs
}
