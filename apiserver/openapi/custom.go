package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"skiff/apiserver/resources"
)

// Custom is a custom resource with the versions that are served.
type Custom struct {
	Resource *resources.Resource
	Versions []string
	// ETag changes when a schema does: documents are made when they are asked for.
	ETag string
	// Schema is a version's schema without what every object has; nil where it
	// leaves everything open.
	Schema func(version string, v3 bool) map[string]any
}

// customAt are the custom resources that the document at path describes.
func (v view) customAt(path string) []Custom {
	gv := groupVersionOf(path)
	if gv.Version == "" {
		return nil
	}
	var out []Custom
	for _, c := range v.custom {
		if c.Resource.Group == gv.Group && slices.Contains(c.Versions, gv.Version) {
			out = append(out, c)
		}
	}
	return out
}

// customBody and customList stand for the types that custom resources do not have.
type (
	customBody struct{}
	customList struct{}
)

// limit leaves the formats that custom resources have: their objects have no
// protobuf form, and nothing says how their lists merge strategically.
func (s *schemas) limit(types []string) []string {
	if s.alias == nil {
		return types
	}
	return slices.DeleteFunc(slices.Clone(types), func(t string) bool {
		return strings.Contains(t, "protobuf") || strings.Contains(t, "strategic") || strings.Contains(t, "cbor-seq")
	})
}

// customModel is the published name of a kind: "com.example.v1.Widget".
func customModel(gvk schema.GroupVersionKind) string {
	parts := strings.Split(gvk.Group, ".")
	slices.Reverse(parts)
	return strings.Join(append(parts, gvk.Version, gvk.Kind), ".")
}

// defineCustom adds the schemas of a kind and of its list.
func (s *schemas) defineCustom(gvk schema.GroupVersionKind, plural, listKind string, body map[string]any) {
	list := gvk
	list.Kind = listKind
	name, listName := customModel(gvk), customModel(list)
	s.alias = map[reflect.Type]string{reflect.TypeFor[customBody](): name, reflect.TypeFor[customList](): listName}
	if body == nil {
		// Properties would say that there are no others.
		s.defs[name] = object{"type": "object"}
	} else {
		s.embed(body)
		s.common(body, s.ref(reflect.TypeFor[metav1.ObjectMeta]()))
		s.defs[name] = body
	}
	s.defs[name]["x-kubernetes-group-version-kind"] = []any{kindObject(gvk)}
	out := object{
		"type": "object", "description": listKind + " is a list of " + gvk.Kind, "required": []string{"items"},
		"x-kubernetes-group-version-kind": []any{kindObject(list)},
		"properties":                      object{"items": object{"type": "array", "description": "List of " + plural + ". More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", "items": object{"$ref": s.prefix + name}}},
	}
	s.common(out, s.ref(reflect.TypeFor[metav1.ListMeta]()))
	s.defs[listName] = out
}

// common adds the properties that every object has.
func (s *schemas) common(body object, metadata object) {
	properties, _ := body["properties"].(map[string]any)
	if properties == nil {
		properties = object{}
		body["properties"] = properties
	}
	docs := metav1.TypeMeta{}.SwaggerDoc()
	for _, name := range []string{"apiVersion", "kind"} {
		properties[name] = object{"type": "string", "description": docs[name]}
	}
	if s.v3 {
		metadata = object{"allOf": []any{metadata}}
	}
	metadata["description"] = metav1.PartialObjectMetadata{}.SwaggerDoc()["metadata"]
	properties["metadata"] = metadata
}

// embed adds them to the objects within an object that are whole ones.
func (s *schemas) embed(node map[string]any) {
	if properties, ok := node["properties"].(map[string]any); ok {
		for _, p := range properties {
			if m, ok := p.(map[string]any); ok {
				s.embed(m)
			}
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if m, ok := node[key].(map[string]any); ok {
			s.embed(m)
		}
	}
	if on, _ := node["x-kubernetes-embedded-resource"].(bool); !on {
		return
	}
	if open, _ := node["x-kubernetes-preserve-unknown-fields"].(bool); open && !s.v3 {
		return
	}
	s.common(node, s.ref(reflect.TypeFor[metav1.ObjectMeta]()))
	properties, _ := node["properties"].(map[string]any)
	const conventions = "More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#"
	properties["apiVersion"] = object{"type": "string", "description": "apiVersion defines the versioned schema of this representation of an object. " + conventions + "resources"}
	properties["kind"] = object{"type": "string", "description": "kind is a string value representing the type of this object. In CamelCase. " + conventions + "types-kinds"}
	required, _ := node["required"].([]any)
	for _, name := range []any{"kind", "apiVersion"} {
		if !slices.Contains(required, name) {
			required = append(required, name)
		}
	}
	node["required"] = required
}

// customResource adds the paths and schemas of a custom resource in one version.
func (b *builder) customResource(c Custom, version string) {
	v := versionOf(c.Resource, version)
	gvk := schema.GroupVersionKind{Group: c.Resource.Group, Version: version, Kind: c.Resource.Kind}
	b.s.defineCustom(gvk, c.Resource.Plural, c.Resource.ListKind, c.Schema(version, b.s.v3))
	s := newSite(c.Resource, v)
	s.body, s.list = reflect.TypeFor[customBody](), reflect.TypeFor[customList]()
	b.pathsOf(c.Resource, s)
	b.s.alias = nil
}

// CustomKind is a kind with its schema, for CustomModels.
type CustomKind struct {
	Kind     schema.GroupVersionKind
	ListKind string
	Schema   map[string]any
}

// CustomModels are the schemas of kinds and of what they refer to, by name.
func CustomModels(kinds []CustomKind) (map[string]*spec.Schema, error) {
	s := newSchemas(true, allKinds)
	for _, k := range kinds {
		s.defineCustom(k.Kind, "", k.ListKind, k.Schema)
	}
	return s.models()
}

// models are the schemas as the library of managed fields takes them.
func (s *schemas) models() (map[string]*spec.Schema, error) {
	out := make(map[string]*spec.Schema, len(s.defs))
	for name, def := range s.defs {
		raw, err := json.Marshal(def)
		if err != nil {
			return nil, err
		}
		out[name] = &spec.Schema{}
		if err := json.Unmarshal(raw, out[name]); err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
	}
	return out, nil
}
