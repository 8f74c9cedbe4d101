// Package storagemigration declares the kinds of storagemigration.k8s.io.
package storagemigration

import (
	"context"

	v1 "k8s.io/api/storagemigration/v1"
	beta "k8s.io/api/storagemigration/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/convert"
	"skiff/apiserver/resources/table"
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
	// Unlike other kinds' names, this column has no format.
	r.Columns = table.Columns(table.Text("Name", "The name of the migration."), table.Text("Resource", "What is migrated."), table.Text("Status", "How far it is."))
	at := field.NewPath("spec")
	validate := func(_ context.Context, o *migration) field.ErrorList {
		if o.Spec.Resource.Resource == "" {
			return field.ErrorList{field.Required(at.Child("resource", "resource"), "resource is required")}
		}
		return nil
	}
	main, view := resources.SpecStatus(resources.TypedStrategy[migration, *migration]{
		Validate: validate,
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
		Row: func(o *migration) []any {
			resource := schema.GroupResource{Group: o.Spec.Resource.Group, Resource: o.Spec.Resource.Resource}
			return []any{o.Name, resource.String(), state(o)}
		},
	})}
}

// state is the newest stage that the migration has reached.
func state(o *migration) string {
	for _, stage := range []v1.MigrationConditionType{v1.MigrationSucceeded, v1.MigrationFailed, v1.MigrationRunning} {
		if apimeta.IsStatusConditionTrue(o.Status.Conditions, string(stage)) {
			return string(stage)
		}
	}
	return "Unknown"
}
