package vapstatus

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const (
	reference = "#/components/schemas/"
	// maxNodes bounds a schema whose references are written out. The largest that
	// is built in has some thousands; a server that is aggregated may publish
	// anything.
	maxNodes = 100_000
)

// document are the schemas of one API version, by name. Few of the many are asked
// for: each is decoded when it is.
type document map[string]json.RawMessage

// of is the schema of a kind with all references written out; nil if it has none.
func (d document) of(kind schema.GroupVersionKind) (*spec.Schema, error) {
	for _, name := range slices.Sorted(maps.Keys(d)) {
		var s groupVersionKind
		if err := json.Unmarshal(d[name], &s); err != nil || !s.has(kind) {
			continue
		}
		w := writer{document: d, decoded: map[string]spec.Schema{}, open: map[string]bool{}, left: maxNodes}
		out, err := w.named(name)
		if err != nil {
			return nil, err
		}
		return &out, nil
	}
	return nil, nil
}

// writer writes references out.
type writer struct {
	document
	decoded map[string]spec.Schema
	open    map[string]bool // the names above, which no reference may lead back to
	left    int
}

func (w *writer) named(name string) (spec.Schema, error) {
	if w.open[name] {
		return anything(), nil
	}
	s, ok := w.decoded[name]
	if !ok {
		text, ok := w.document[name]
		if !ok {
			return s, fmt.Errorf("%q is referred to and absent", name)
		}
		if err := json.Unmarshal(text, &s); err != nil {
			return s, fmt.Errorf("%q: %w", name, err)
		}
		w.decoded[name] = s
	}
	w.open[name] = true
	defer delete(w.open, name)
	return w.whole(s)
}

// whole is s without references. The expressions see objects as JSON, where times
// and bytes are strings, so formats are left out. What is not said, or may be
// more than is said, is anything: of it no expression can be wrong.
func (w *writer) whole(s spec.Schema) (spec.Schema, error) {
	if w.left--; w.left < 0 {
		return spec.Schema{}, fmt.Errorf("more than %d fields", maxNodes)
	}
	if ref := refOf(s); ref != "" {
		return w.named(strings.TrimPrefix(ref, reference))
	}
	if open, _ := s.Extensions.GetBool("x-kubernetes-preserve-unknown-fields"); open || len(s.Type) != 1 {
		return anything(), nil
	}
	s.Format = ""
	switch s.Type[0] {
	case "array":
		if s.Items == nil || s.Items.Schema == nil {
			return anything(), nil
		}
		items, err := w.whole(*s.Items.Schema)
		if err != nil {
			return s, err
		}
		s.Items = &spec.SchemaOrArray{Schema: &items}
	case "object":
		if len(s.Properties) == 0 && (s.AdditionalProperties == nil || s.AdditionalProperties.Schema == nil) {
			return anything(), nil
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
			values, err := w.whole(*s.AdditionalProperties.Schema)
			if err != nil {
				return s, err
			}
			s.AdditionalProperties = &spec.SchemaOrBool{Allows: true, Schema: &values}
		}
		s.Properties = maps.Clone(s.Properties)
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			field, err := w.whole(s.Properties[name])
			if err != nil {
				return s, fmt.Errorf("%s: %w", name, err)
			}
			s.Properties[name] = field
		}
	}
	return s, nil
}

// refOf is what s refers to. A reference that has a default beside it is the
// only one of an allOf.
func refOf(s spec.Schema) string {
	if len(s.AllOf) == 1 {
		return s.AllOf[0].Ref.String()
	}
	return s.Ref.String()
}

// anything is a schema of all values: this is the mark that CEL knows it by.
func anything() spec.Schema {
	return spec.Schema{VendorExtensible: spec.VendorExtensible{Extensions: spec.Extensions{"x-kubernetes-int-or-string": true}}}
}
