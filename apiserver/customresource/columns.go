package customresource

import (
	"bytes"
	"encoding/json"
	"reflect"
	"sync"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metatable "k8s.io/apimachinery/pkg/api/meta/table"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/jsonpath"

	"skiff/apiserver/resources/table"
)

// column is one additional column with its path taken apart.
type column struct {
	kind string
	path *jsonpath.JSONPath
}

// columns are a version's Table form: the name, then what the definition names,
// or the age. A path that cannot be read ends them, as validation lets none by.
func columns(additional []v1.CustomResourceColumnDefinition) ([]metav1.TableColumnDefinition, func(runtime.Object) []any) {
	if len(additional) == 0 {
		additional = []v1.CustomResourceColumnDefinition{{
			Name: "Age", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"], JSONPath: ".metadata.creationTimestamp",
		}}
	}
	heads := []metav1.TableColumnDefinition{table.Name()}
	for _, c := range additional {
		text := c.Description
		if text == "" {
			text = "Custom resource definition column (in JSONPath format): " + c.JSONPath
		}
		heads = append(heads, metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Format: c.Format, Description: text, Priority: c.Priority})
	}
	parsed := sync.OnceValue(func() []column {
		out := make([]column, len(additional))
		for i, c := range additional {
			path := jsonpath.New(c.Name).AllowMissingKeys(true)
			out[i].kind = c.Type
			if path.Parse("{"+c.JSONPath+"}") == nil {
				out[i].path = path
			}
		}
		return out
	})
	var mu sync.Mutex // a parsed path keeps state while it looks
	return heads, func(obj runtime.Object) []any {
		u, ok := obj.(*unstructured.Unstructured)
		if !ok {
			return make([]any, len(heads))
		}
		mu.Lock()
		defer mu.Unlock()
		cells := []any{u.GetName()}
		for _, c := range parsed() {
			cells = append(cells, c.cell(u.Object))
		}
		return cells
	}
}

func (c column) cell(content map[string]any) any {
	if c.path == nil {
		return nil
	}
	found, err := c.path.FindResults(content)
	if err != nil || len(found) == 0 || len(found[0]) == 0 {
		return nil
	}
	value := found[0][0].Interface()
	if c.kind == "string" {
		var text bytes.Buffer
		if err := c.path.PrintResults(&text, []reflect.Value{reflect.ValueOf(value)}); err != nil {
			return nil
		}
		return text.String()
	}
	return cellOf(c.kind, value)
}

// cellOf is a value in the column's type, or nil where it is of another.
func cellOf(kind string, value any) any {
	switch kind {
	case "integer":
		switch n := value.(type) {
		case int64:
			return n
		case float64:
			return int64(n)
		case json.Number:
			if i, err := n.Int64(); err == nil {
				return i
			}
		}
	case "number":
		switch n := value.(type) {
		case int64:
			return float64(n)
		case float64:
			return n
		case json.Number:
			if f, err := n.Float64(); err == nil {
				return f
			}
		}
	case "boolean":
		if b, ok := value.(bool); ok {
			return b
		}
	case "date":
		if text, ok := value.(string); ok {
			var at metav1.Time
			if err := at.UnmarshalQueryParameter(text); err != nil {
				return "<invalid>"
			}
			return metatable.ConvertToHumanReadableDateType(at)
		}
	}
	return nil
}
