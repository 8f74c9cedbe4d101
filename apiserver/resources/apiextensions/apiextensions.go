// Package apiextensions declares CustomResourceDefinition.
package apiextensions

import (
	"context"
	"strings"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

type crd = v1.CustomResourceDefinition

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	r := resources.Kind(v1.GroupName, "CustomResourceDefinition", "customresourcedefinitions", false, "crd", "crds")
	r.Path = v1.GroupName + "/customresourcedefinitions"
	r.Categories = []string{"api-extensions"}
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[v1.CustomResourceDefinitionList], defaults)}
	r.Columns = table.Columns(table.Name(), table.CreatedAt())
	main, view := resources.SpecStatus(resources.TypedStrategy[crd, *crd]{Generation: true, Validate: validate, ValidateUpdate: validateUpdate},
		func(o *crd) *v1.CustomResourceDefinitionSpec { return &o.Spec }, func(o *crd) *v1.CustomResourceDefinitionStatus { return &o.Status })
	create := main.PrepareForCreate
	main.PrepareForCreate = func(ctx context.Context, o *crd) {
		create(ctx, o)
		for _, v := range o.Spec.Versions {
			if v.Storage {
				o.Status.StoredVersions = []string{v.Name}
			}
		}
	}
	return []resources.Resource{resources.Declare(resources.Spec[crd, *crd]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *crd) []any { return []any{o.Name, table.Created(o.CreationTimestamp)} },
	})}
}

func defaults(o *crd) {
	s := &o.Spec
	if s.Names.Singular == "" {
		s.Names.Singular = strings.ToLower(s.Names.Kind)
	}
	if s.Names.ListKind == "" && s.Names.Kind != "" {
		s.Names.ListKind = s.Names.Kind + "List"
	}
	if s.Conversion == nil {
		s.Conversion = &v1.CustomResourceConversion{Strategy: v1.NoneConverter}
	}
	if w := s.Conversion.Webhook; w != nil && w.ClientConfig != nil && w.ClientConfig.Service != nil && w.ClientConfig.Service.Port == nil {
		w.ClientConfig.Service.Port = ptr.To[int32](443)
	}
}

func validate(_ context.Context, o *crd) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	if want := o.Spec.Names.Plural + "." + o.Spec.Group; o.Name != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), o.Name, "must be spec.names.plural+\".\"+spec.group"))
	}
	if o.Spec.Group == "" {
		errs = append(errs, field.Required(at.Child("group"), ""))
	} else if !strings.Contains(o.Spec.Group, ".") {
		errs = append(errs, field.Invalid(at.Child("group"), o.Spec.Group, "should be a domain with at least one dot"))
	}
	if o.Spec.Scope != v1.ClusterScoped && o.Spec.Scope != v1.NamespaceScoped {
		errs = append(errs, field.NotSupported(at.Child("scope"), o.Spec.Scope, []v1.ResourceScope{v1.ClusterScoped, v1.NamespaceScoped}))
	}
	if o.Spec.Names.Plural == "" {
		errs = append(errs, field.Required(at.Child("names", "plural"), ""))
	}
	if o.Spec.Names.Kind == "" {
		errs = append(errs, field.Required(at.Child("names", "kind"), ""))
	}
	stored := 0
	names := map[string]bool{}
	for i, v := range o.Spec.Versions {
		at := at.Child("versions").Index(i)
		for _, msg := range validation.IsDNS1035Label(v.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, msg))
		}
		if names[v.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		names[v.Name] = true
		if v.Storage {
			stored++
		}
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			errs = append(errs, field.Required(at.Child("schema", "openAPIV3Schema"), "schemas are required"))
		}
	}
	if stored != 1 {
		errs = append(errs, field.Invalid(at.Child("versions"), o.Spec.Versions, "must have exactly one version marked as storage version"))
	}
	return errs
}

func validateUpdate(ctx context.Context, o, old *crd) field.ErrorList {
	errs := validate(ctx, o)
	at := field.NewPath("spec")
	established := false
	for _, c := range old.Status.Conditions {
		established = established || c.Type == v1.Established && c.Status == v1.ConditionTrue
	}
	if established {
		errs = append(errs, apivalidation.ValidateImmutableField(o.Spec.Scope, old.Spec.Scope, at.Child("scope"))...)
		errs = append(errs, apivalidation.ValidateImmutableField(o.Spec.Names.Kind, old.Spec.Names.Kind, at.Child("names", "kind"))...)
	}
	errs = append(errs, apivalidation.ValidateImmutableField(o.Spec.Group, old.Spec.Group, at.Child("group"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(o.Spec.Names.Plural, old.Spec.Names.Plural, at.Child("names", "plural"))...)
	have := map[string]bool{}
	for _, v := range o.Spec.Versions {
		have[v.Name] = true
	}
	for i, v := range o.Status.StoredVersions {
		if !have[v] {
			errs = append(errs, field.Invalid(field.NewPath("status", "storedVersions").Index(i), v, "missing from spec.versions; "+v+" was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in "+v+" and removes "+v+" from status.storedVersions"))
		}
	}
	return errs
}
