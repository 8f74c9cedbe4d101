package customresource

import (
	"fmt"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// version is one version of a definition with its schema. The schema is taken
// apart when the first object comes by, and the rules are compiled when the first
// is written: most of a thousand definitions see neither.
type version struct {
	*v1.CustomResourceDefinitionVersion
	shape func() (*structural.Structural, error)
	rules func() (*rules, error)
}

// rules are what objects are checked against.
type rules struct {
	schema, status validation.SchemaValidator
	cel            *cel.Validator
}

func newVersion(v *v1.CustomResourceDefinitionVersion, preserve bool) *version {
	out := &version{CustomResourceDefinitionVersion: v}
	out.shape = sync.OnceValues(func() (*structural.Structural, error) { return shapeOf(v, preserve) })
	out.rules = sync.OnceValues(func() (*rules, error) {
		s, err := out.shape()
		if err != nil {
			return nil, err
		}
		return rulesOf(v, s)
	})
	return out
}

// hasStatus and hasScale tell which subresources the version has.
func (v *version) hasStatus() bool { return v.Subresources != nil && v.Subresources.Status != nil }
func (v *version) hasScale() bool  { return v.Subresources != nil && v.Subresources.Scale != nil }

// internalSchema is a version's schema as the schema libraries take it; nil when
// it has none.
func internalSchema(v *v1.CustomResourceDefinitionVersion) (*apiextensions.JSONSchemaProps, error) {
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return nil, nil
	}
	var out apiextensions.CustomResourceValidation
	if err := v1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.Schema, &out, nil); err != nil {
		return nil, fmt.Errorf("schema of version %s: %w", v.Name, err)
	}
	return out.OpenAPIV3Schema, nil
}

func shapeOf(v *v1.CustomResourceDefinitionVersion, preserve bool) (*structural.Structural, error) {
	in, err := internalSchema(v)
	if in == nil || err != nil {
		return nil, err
	}
	s, err := structural.NewStructural(in)
	if err != nil {
		if preserve {
			return nil, nil // an old definition may keep what its schema cannot express
		}
		return nil, fmt.Errorf("schema of version %s: %w", v.Name, err)
	}
	// Defaults are shared with the definition, which is not ours to change.
	s = s.DeepCopy()
	if !preserve {
		if err := defaulting.PruneDefaults(s); err != nil {
			return nil, fmt.Errorf("defaults of version %s: %w", v.Name, err)
		}
	}
	return s, nil
}

func rulesOf(v *v1.CustomResourceDefinitionVersion, s *structural.Structural) (*rules, error) {
	in, err := internalSchema(v)
	if err != nil {
		return nil, err
	}
	r := &rules{}
	if r.schema, _, err = validation.NewSchemaValidator(in); err != nil {
		return nil, fmt.Errorf("schema of version %s: %w", v.Name, err)
	}
	if in != nil {
		if status, ok := in.Properties["status"]; ok {
			if r.status, _, err = validation.NewSchemaValidator(&status); err != nil {
				return nil, fmt.Errorf("status schema of version %s: %w", v.Name, err)
			}
		}
	}
	if s != nil {
		r.cel = cel.NewValidator(s, true, celconfig.PerCallLimit)
	}
	return r, nil
}

// coerce drops what the version's schema does not know and gives the object the
// metadata that Go types would have had. It returns the paths of what it dropped
// when track is set.
func (k *kind) coerce(v *version, u *unstructured.Unstructured, stored, track bool) ([]string, error) {
	s, err := v.shape()
	if err != nil {
		return nil, err
	}
	if u.Object == nil {
		u.Object = map[string]any{}
	}
	meta, hasMeta, unknown, err := objectmeta.GetObjectMetaWithOptions(u.Object, objectmeta.ObjectMetaOptions{
		DropMalformedFields: stored, ReturnUnknownFieldPaths: track,
	})
	if err != nil {
		return nil, err
	}
	if !k.crd.Spec.PreserveUnknownFields {
		unknown = append(unknown, pruning.PruneWithOptions(u.Object, s, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: track})...)
		defaulting.PruneNonNullableNullsWithoutDefaults(u.Object, s)
	}
	invalid, paths := objectmeta.CoerceWithOptions(nil, u.Object, s, false, objectmeta.CoerceOptions{
		DropInvalidFields: stored, ReturnUnknownFieldPaths: track,
	})
	if invalid != nil {
		return nil, invalid
	}
	unknown = append(unknown, paths...)
	if stored && hasMeta && meta.Generation == 0 {
		meta.Generation = 1
	}
	u.SetGroupVersionKind(k.gvk(v.Name))
	if hasMeta {
		if err := objectmeta.SetObjectMeta(u.Object, meta); err != nil {
			return nil, err
		}
	}
	return unknown, nil
}

// fill puts the schema's defaults in.
func (v *version) fill(u *unstructured.Unstructured) {
	if s, err := v.shape(); err == nil && s != nil {
		defaulting.Default(u.Object, s)
	}
}

func (k *kind) gvk(version string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.crd.Spec.Group, Version: version, Kind: k.crd.Status.AcceptedNames.Kind}
}
