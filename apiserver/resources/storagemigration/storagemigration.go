// Package storagemigration declares the kinds of storagemigration.k8s.io.
package storagemigration

import (
	"context"

	v1 "k8s.io/api/storagemigration/v1"
	beta "k8s.io/api/storagemigration/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/convert"
)

type migration = v1.StorageVersionMigration

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	r := resources.Kind(v1.GroupName, "StorageVersionMigration", "storageversionmigrations", false)
	r.Versions = []resources.Version{
		resources.HubVersion[migration]("v1", resources.Empty[v1.StorageVersionMigrationList], nil),
		convert.Same[beta.StorageVersionMigration, migration](
			schema.GroupVersionKind{Group: v1.GroupName, Version: "v1beta1", Kind: "StorageVersionMigration"}, "v1",
			resources.Empty[beta.StorageVersionMigrationList], nil),
	}
	at := field.NewPath("spec")
	validate := func(_ context.Context, o *migration) field.ErrorList {
		if o.Spec.Resource.Resource == "" {
			return field.ErrorList{field.Required(at.Child("resource", "resource"), "resource is required")}
		}
		return nil
	}
	main, view := resources.SpecStatus(resources.TypedStrategy[migration, *migration]{
		Generation: true,
		Validate:   validate,
		ValidateUpdate: func(ctx context.Context, o, old *migration) field.ErrorList {
			errs := validate(ctx, o)
			if !equality.Semantic.DeepEqual(o.Spec, old.Spec) {
				errs = append(errs, field.Invalid(at, o.Spec, "field is immutable"))
			}
			return errs
		},
	}, func(o *migration) *v1.StorageVersionMigrationSpec { return &o.Spec },
		func(o *migration) *v1.StorageVersionMigrationStatus { return &o.Status })
	return []resources.Resource{resources.Declare(resources.Spec[migration, *migration]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
	})}
}
