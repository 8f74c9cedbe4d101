package customresource

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"skiff/apiserver/openapi"
)

// OpenAPI are all custom resources as the OpenAPI documents describe them.
func (c *Controller) OpenAPI() []openapi.Custom {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]openapi.Custom, 0, len(c.served))
	for _, s := range c.served {
		out = append(out, openapi.Custom{
			Resource: s.res, Versions: s.kind.served(), Schema: s.kind.published,
			ETag: fmt.Sprintf("%s/%s/%d/%s/%s/%t", s.kind.crd.Name, s.kind.crd.UID, s.kind.crd.Generation, s.res.Kind, s.res.ListKind, s.terminating),
		})
	}
	slices.SortFunc(out, func(a, b openapi.Custom) int {
		switch {
		case a.ETag < b.ETag:
			return -1
		case a.ETag > b.ETag:
			return 1
		}
		return 0
	})
	return out
}

// published is a version's schema in a document; nil where it leaves open what
// objects look like.
func (k *kind) published(version string, v3 bool) map[string]any {
	v := k.versions[version]
	in, err := internalSchema(v.CustomResourceDefinitionVersion)
	if in == nil || err != nil {
		return nil
	}
	s, err := structural.NewStructural(in)
	if err != nil || len(structural.ValidateStructural(nil, s)) > 0 {
		return nil
	}
	s = s.Unfold()
	if !v3 {
		if s.XPreserveUnknownFields || k.crd.Spec.PreserveUnknownFields {
			return nil
		}
		s = old(s)
	}
	out := document(s)
	if out != nil && len(v.SelectableFields) > 0 {
		fields := make([]any, len(v.SelectableFields))
		for i, f := range v.SelectableFields {
			fields[i] = map[string]any{"fieldPath": strings.TrimPrefix(f.JSONPath, ".")}
		}
		out["x-kubernetes-selectable-fields"] = fields
	}
	return out
}

func document(s *structural.Structural) map[string]any {
	raw, err := json.Marshal(s.ToKubeOpenAPI())
	if err != nil {
		return nil
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil
	}
	return out
}

// old is a schema without what OpenAPI v2, or its readers, cannot take.
func old(in *structural.Structural) *structural.Structural {
	out := in.DeepCopy()
	visit := structural.Visitor{Structural: func(s *structural.Structural) bool {
		changed := s.Default.Object != nil
		s.Default.Object = nil
		if v := s.ValueValidation; v != nil && (v.AllOf != nil || v.OneOf != nil || v.AnyOf != nil || v.Not != nil) {
			v.AllOf, v.OneOf, v.AnyOf, v.Not = nil, nil, nil, nil
			changed = true
		}
		if s.Nullable {
			// A value without a type must not have parts.
			s.Type, s.Nullable, s.Items, s.Properties = "", false, nil, nil
			changed = true
		}
		if s.XPreserveUnknownFields {
			s.Items, s.Properties = nil, nil
			if s.Type == "object" {
				s.Type = ""
			}
			changed = true
		}
		if s.Type == "array" && s.Items == nil {
			s.Type = ""
			changed = true
		}
		for name, p := range s.Properties {
			if p.Nullable && s.ValueValidation != nil {
				s.ValueValidation.Required = slices.DeleteFunc(s.ValueValidation.Required, func(r string) bool { return r == name })
				changed = true
			}
		}
		return changed
	}}
	visit.Visit(out)
	return out
}

// typeConverter knows how server-side apply merges the kind's objects.
func (k *kind) typeConverter() managedfields.TypeConverter {
	var kinds []openapi.CustomKind
	for _, v := range k.versions {
		ck := openapi.CustomKind{Kind: k.gvk(v.Name), ListKind: k.crd.Status.AcceptedNames.ListKind}
		if in, err := internalSchema(v.CustomResourceDefinitionVersion); in != nil && err == nil {
			if s, err := structural.NewStructural(in); err == nil {
				ck.Schema = document(s.Unfold().StripValueValidations().StripNullable())
			}
		}
		kinds = append(kinds, ck)
	}
	models, err := openapi.CustomModels(kinds)
	if err != nil {
		return managedfields.NewDeducedTypeConverter()
	}
	c, err := managedfields.NewTypeConverter(models, k.crd.Spec.PreserveUnknownFields)
	if err != nil {
		return managedfields.NewDeducedTypeConverter()
	}
	return c
}
