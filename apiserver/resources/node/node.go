// Package node declares the kinds of node.k8s.io.
package node

import (
	"context"

	nodev1 "k8s.io/api/node/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{runtimeClasses()}
}

func runtimeClasses() resources.Resource {
	r := resources.Kind(nodev1.GroupName, "RuntimeClass", "runtimeclasses", false)
	r.Versions = []resources.Version{resources.HubVersion[nodev1.RuntimeClass]("v1", resources.Empty[nodev1.RuntimeClassList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("Handler", "The runtime's name of the class."), table.Age())
	return resources.Declare(resources.Spec[nodev1.RuntimeClass, *nodev1.RuntimeClass]{
		Resource: r,
		Strategy: resources.TypedStrategy[nodev1.RuntimeClass, *nodev1.RuntimeClass]{Metadata: resources.MetadataRules{NamesOnUpdate: true, AnyFinalizer: true}, AllowCreateOnUpdate: true, Validate: validateRuntimeClass, ValidateUpdate: func(ctx context.Context, o, old *nodev1.RuntimeClass) field.ErrorList {
			return append(validateRuntimeClass(ctx, o), apivalidation.ValidateImmutableField(o.Handler, old.Handler, field.NewPath("handler"))...)
		}},
		Row: func(o *nodev1.RuntimeClass) []any { return []any{o.Name, o.Handler, table.Since(o.CreationTimestamp)} },
	})
}

func validateRuntimeClass(ctx context.Context, o *nodev1.RuntimeClass) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range apivalidation.NameIsDNSLabel(o.Handler, false) {
		errs = append(errs, field.Invalid(field.NewPath("handler"), o.Handler, msg))
	}
	return append(errs, validateExtras(ctx, o)...)
}
