package apiextensions

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// internal is a definition as the schema library takes it. It shares nothing with o
// that validation changes.
func internal(o *crd) (*apiextensions.CustomResourceDefinition, field.ErrorList) {
	out := &apiextensions.CustomResourceDefinition{}
	if err := v1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(o.DeepCopy(), out, nil); err != nil {
		return nil, field.ErrorList{field.InternalError(nil, err)}
	}
	return out, nil
}

func validate(ctx context.Context, o *crd) field.ErrorList {
	in, errs := internal(o)
	if len(errs) > 0 {
		return errs
	}
	return own(validation.ValidateCustomResourceDefinition(ctx, in))
}

// own leaves out what the generic path tells about metadata.
func own(errs field.ErrorList) field.ErrorList {
	approval := field.NewPath("metadata", "annotations").Key(v1.KubeAPIApprovedAnnotation).String()
	return slices.DeleteFunc(errs, func(e *field.Error) bool {
		return strings.HasPrefix(e.Field, "metadata") && e.Field != approval && !strings.Contains(e.Detail, "spec.names.plural")
	})
}

func validateUpdate(ctx context.Context, o, old *crd) field.ErrorList {
	return validateChange(ctx, o, old, validation.ValidateCustomResourceDefinitionUpdate)
}

func validateStatus(ctx context.Context, o, old *crd) field.ErrorList {
	return validateChange(ctx, o, old, validation.ValidateUpdateCustomResourceDefinitionStatus)
}

func validateChange(ctx context.Context, o, old *crd, rule func(context.Context, *apiextensions.CustomResourceDefinition, *apiextensions.CustomResourceDefinition) field.ErrorList) field.ErrorList {
	in, errs := internal(o)
	was, more := internal(old)
	if errs = append(errs, more...); len(errs) > 0 {
		return errs
	}
	return own(rule(ctx, in, was))
}

// warnings are about what schemas ask for that nobody checks. An update is warned of
// what it brings in.
func warnings(_ context.Context, o, old *crd) []string {
	had := map[string]bool{}
	if old != nil {
		for _, text := range schemaWarnings(old) {
			had[text] = true
		}
	}
	var out []string
	for _, text := range schemaWarnings(o) {
		if !had[text] {
			out = append(out, text)
		}
	}
	return out
}

func schemaWarnings(o *crd) []string {
	in, errs := internal(o)
	if len(errs) > 0 {
		return nil
	}
	var formats []string
	sets := map[string]bool{}
	look := func(s *apiextensions.JSONSchemaProps) bool {
		if s.Format != "" {
			probe := &spec.Schema{SchemaProps: spec.SchemaProps{Format: s.Format, Type: []string{s.Type}}}
			for _, f := range schemavalidation.GetUnrecognizedFormats(probe, environment.DefaultCompatibilityVersion()) {
				formats = append(formats, fmt.Sprintf("unrecognized format %q", f))
			}
		}
		if s.XListType != nil && *s.XListType == "set" && s.Items != nil && s.Items.Schema != nil {
			if t := s.Items.Schema.Type; t == "object" || t == "array" {
				sets[fmt.Sprintf("x-kubernetes-list-type: set for items of type %q is not supported by server-side apply or CEL validation rules", t)] = true
			}
		}
		return false
	}
	if v := in.Spec.Validation; v != nil && v.OpenAPIV3Schema != nil {
		validation.SchemaHas(v.OpenAPIV3Schema, look)
	}
	for _, v := range in.Spec.Versions {
		if v.Schema != nil && v.Schema.OpenAPIV3Schema != nil {
			validation.SchemaHas(v.Schema.OpenAPIV3Schema, look)
		}
	}
	return append(formats, slices.Sorted(maps.Keys(sets))...)
}
