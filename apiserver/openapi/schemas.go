package openapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// object is a JSON object of a document.
type object = map[string]any

// schemas collects the schemas that a document refers to.
type schemas struct {
	prefix string // of references
	v3     bool
	defs   map[string]object
	// kinds are the names that a type has in the API, those that the document
	// is to show.
	kinds func(reflect.Type) []schema.GroupVersionKind
	// known are the names of schemas that the document has elsewhere.
	known map[string]bool
	// alias names the schemas that stand for a custom resource while its paths
	// are made.
	alias map[reflect.Type]string
}

func newSchemas(v3 bool, kinds func(reflect.Type) []schema.GroupVersionKind) *schemas {
	s := &schemas{prefix: "#/definitions/", v3: v3, defs: map[string]object{}, kinds: kinds}
	if v3 {
		s.prefix = "#/components/schemas/"
	}
	return s
}

// modelName is the published name of a Go type.
func modelName(t reflect.Type) string {
	if n, ok := reflect.New(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return n.OpenAPIModelName()
	}
	parts := strings.Split(t.PkgPath(), "/")
	host := strings.Split(parts[0], ".")
	slices.Reverse(host)
	return strings.Join(append(append(host, parts[1:]...), t.Name()), ".")
}

func (s *schemas) ref(t reflect.Type) object {
	if name := s.alias[t]; name != "" {
		return object{"$ref": s.prefix + name}
	}
	name := modelName(t)
	if _, ok := s.defs[name]; !ok && !s.known[name] {
		s.defs[name] = object{} // cut cycles
		s.defs[name] = s.define(t)
	}
	return object{"$ref": s.prefix + name}
}

func docsOf(t reflect.Type) map[string]string {
	if d, ok := reflect.New(t).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
		return d.SwaggerDoc()
	}
	return nil
}

// define is the schema of a struct.
func (s *schemas) define(t reflect.Type) object {
	docs := docsOf(t)
	out := s.custom(t)
	if out == nil {
		out = object{"type": "object"}
		properties := object{}
		var required []string
		s.fields(t, docs, properties, &required)
		if len(properties) > 0 {
			out["properties"] = properties
		}
		if len(required) > 0 {
			out["required"] = required
		}
	}
	if text := docs[""]; text != "" {
		out["description"] = text
	}
	if m := markers()[goName(t)][""]; m != nil {
		if m.mapType != "" {
			out["x-kubernetes-map-type"] = m.mapType
		}
		if m.union {
			out["x-kubernetes-unions"] = []any{unionOf(t)}
		}
	}
	if kinds := s.kinds(t); len(kinds) > 0 {
		list := make([]any, len(kinds))
		for i, k := range kinds {
			list[i] = kindObject(k)
		}
		out["x-kubernetes-group-version-kind"] = list
	}
	return out
}

// custom is the schema of a type whose JSON is not its fields; the type tells.
func (s *schemas) custom(t reflect.Type) object {
	v := reflect.New(t).Interface()
	typed, ok := v.(interface{ OpenAPISchemaType() []string })
	if !ok {
		return nil
	}
	out := object{}
	if oneOf, ok := v.(interface{ OpenAPIV3OneOfTypes() []string }); ok && s.v3 {
		var list []any
		for _, kind := range oneOf.OpenAPIV3OneOfTypes() {
			list = append(list, object{"type": kind})
		}
		out["oneOf"] = list
	} else if kinds := typed.OpenAPISchemaType(); len(kinds) > 0 {
		out["type"] = kinds[0]
	}
	if f, ok := v.(interface{ OpenAPISchemaFormat() string }); ok && f.OpenAPISchemaFormat() != "" {
		out["format"] = f.OpenAPISchemaFormat()
	}
	return out
}

// unionOf is the old union form: one discriminator and the fields it chooses from.
func unionOf(t reflect.Type) object {
	table := markers()[goName(t)]
	out, by := object{}, object{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if m := table[name]; m != nil && m.discriminator {
			out["discriminator"] = name
			continue
		}
		by[name] = f.Name
	}
	out["fields-to-discriminateBy"] = by
	return out
}

func goName(t reflect.Type) string { return t.PkgPath() + "." + t.Name() }

func (s *schemas) fields(t reflect.Type, docs map[string]string, properties object, required *[]string) {
	table := markers()[goName(t)]
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		if name == "-" || !tagged {
			continue
		}
		if name == "" && f.Anonymous {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			innerDocs := docsOf(inner)
			if innerDocs == nil {
				innerDocs = docs
			}
			s.fields(inner, innerDocs, properties, required)
			continue
		}
		if name == "" {
			continue
		}
		omitEmpty := slices.Contains(strings.Split(options, ","), "omitempty")
		m := table[name]
		if m == nil {
			m = &marks{}
		}
		properties[name] = s.property(f, m, docs[name], omitEmpty)
		if m.required || !omitEmpty && !m.optional {
			*required = append(*required, name)
		}
	}
}

func (s *schemas) property(f reflect.StructField, m *marks, doc string, omitEmpty bool) object {
	p := s.value(f.Type)
	if e := enumOf(f.Type); e != nil {
		doc = e.after(doc)
	}
	var def any
	if s.v3 {
		def = defaultOf(f.Type, m, omitEmpty)
	}
	// In v3 nothing may stand beside a reference.
	if _, isRef := p["$ref"]; isRef && s.v3 && (def != nil || doc != "" || m.commented) {
		p = object{"allOf": []any{p}}
	}
	if def != nil {
		p["default"] = def
	}
	if doc != "" {
		p["description"] = doc
	}
	if m.listType != "" {
		p["x-kubernetes-list-type"] = m.listType
	}
	if len(m.keys) > 0 {
		p["x-kubernetes-list-map-keys"] = m.keys
	}
	if m.mapType != "" {
		p["x-kubernetes-map-type"] = m.mapType
	}
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		p["x-kubernetes-patch-strategy"] = strategy
	}
	if key := f.Tag.Get("patchMergeKey"); key != "" {
		p["x-kubernetes-patch-merge-key"] = key
	}
	return p
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// defaultOf is the default that a field is published with: that of its comment
// or its type's, else what Go leaves where nothing is sent.
func defaultOf(t reflect.Type, m *marks, omitEmpty bool) any {
	if m.def != nil {
		return m.def
	}
	named := t
	if named.Kind() == reflect.Pointer {
		named = named.Elem()
	}
	if own := markers()[goName(named)][""]; own != nil && own.def != nil {
		return own.def
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return nil
		}
		if t.NumField() == 1 && t.Field(0).Anonymous {
			return defaultOf(t.Field(0).Type, &marks{}, omitEmpty)
		}
		return object{}
	case reflect.Bool:
		if !omitEmpty {
			return false
		}
	case reflect.String:
		if !omitEmpty {
			return ""
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16,
		reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		if !omitEmpty {
			return 0
		}
	}
	return nil
}

var numbers = map[reflect.Kind][2]string{
	reflect.Uint: {"integer", "int32"}, reflect.Uint8: {"integer", "byte"}, reflect.Uint16: {"integer", "int32"},
	reflect.Uint32: {"integer", "int64"}, reflect.Uint64: {"integer", "int64"}, reflect.Int: {"integer", "int32"},
	reflect.Int8: {"integer", "byte"}, reflect.Int16: {"integer", "int32"}, reflect.Int32: {"integer", "int32"},
	reflect.Int64: {"integer", "int64"}, reflect.Float64: {"number", "double"}, reflect.Float32: {"number", "float"},
}

// value is the schema of a field's type.
func (s *schemas) value(t reflect.Type) object {
	switch t.Kind() {
	case reflect.Pointer:
		return s.value(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return object{"type": "string", "format": "date-time"}
		}
		return s.ref(t)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "format": "byte"}
		}
		return object{"type": "array", "items": s.value(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.value(t.Elem())}
	case reflect.String:
		if e := enumOf(t); e != nil {
			return object{"type": "string", "enum": e.values}
		}
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	}
	if n, ok := numbers[t.Kind()]; ok {
		return object{"type": n[0], "format": n[1]}
	}
	return object{}
}
