package openapi

import (
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// enum is a type with known values.
type enum struct {
	values []string
	// text names each value.
	text string
}

var enums = sync.OnceValue(parseEnums)

// parseEnums reads the generated table.
func parseEnums() map[string]*enum {
	out := map[string]*enum{}
	var current *enum
	for line := range strings.Lines(enumTable) {
		line = strings.TrimSuffix(line, "\n")
		quoted, ok := strings.CutPrefix(line, "\t")
		if !ok {
			current = &enum{}
			for _, name := range strings.Fields(line) {
				out[name] = current
			}
			continue
		}
		current.add(quoted)
	}
	return out
}

// add takes a value that the generator has quoted.
func (e *enum) add(quoted string) {
	value, _ := strconv.Unquote(quoted)
	e.values = append(e.values, value)
	if e.text == "" {
		e.text = "Possible enum values:"
	}
	e.text += "\n - `" + quoted + "`"
}

// enumOf is that of a type or of what it points to.
func enumOf(t reflect.Type) *enum {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return enums()[goName(t)]
}

// after is the description of a field that has this type.
func (e *enum) after(doc string) string {
	if doc == "" {
		return e.text
	}
	return doc + "\n\n" + e.text
}
