package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// addFields declares flags that set fields of a configuration in over, hidden from
// --help: the configuration's own documentation lists them.
func addFields(f *pflag.FlagSet, fields []configField, over map[string]any) {
	for _, field := range fields {
		flag := f.VarPF(&fieldValue{configField: field, over: over}, field.flag, "", "the configuration's "+field.path)
		if field.form == boolean {
			flag.NoOptDefVal = "true"
		}
		flag.Hidden = true
	}
}

// form is how a flag's text becomes a field's value.
type form int

const (
	text    form = iota // a string, or a duration
	number              // a number
	boolean             // true or false, true without a value
	list                // values by commas
	pairs               // KEY=VALUE by commas
	limits              // KEY<VALUE or KEY=VALUE by commas, as thresholds of evictions
)

// configField is a field of a part's configuration that upstream has a flag for, or
// several fields, by commas.
type configField struct {
	flag, path string
	form       form
}

// fieldValue sets a field.
type fieldValue struct {
	configField
	over  map[string]any
	given string
}

// String and the others make it a pflag.Value.
func (v *fieldValue) String() string { return v.given }
func (v *fieldValue) Type() string   { return "string" }
func (v *fieldValue) Set(given string) error {
	value, err := v.form.parse(given)
	if err != nil {
		return err
	}
	v.given = given
	for path := range strings.SplitSeq(v.path, ",") {
		at := v.over
		names := strings.Split(path, ".")
		for _, name := range names[:len(names)-1] {
			next, ok := at[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		at[names[len(names)-1]] = value
	}
	return nil
}

func (f form) parse(given string) (any, error) {
	switch f {
	case number, boolean:
		var out any
		if err := yaml.Unmarshal([]byte(given), &out); err != nil {
			return nil, err
		}
		_, isBool := out.(bool)
		_, isText := out.(string)
		if isBool != (f == boolean) || isText || out == nil {
			return nil, fmt.Errorf("want %s", map[form]string{number: "a number", boolean: "true or false"}[f])
		}
		return out, nil
	case list:
		if given == "" {
			return []any{}, nil
		}
		var out []any
		for _, part := range strings.Split(given, ",") {
			out = append(out, part)
		}
		return out, nil
	case pairs, limits:
		out := map[string]any{}
		for _, part := range strings.Split(given, ",") {
			if part == "" {
				continue
			}
			key, value, ok := strings.Cut(part, "=")
			if f == limits && strings.Contains(part, "<") {
				key, value, ok = strings.Cut(part, "<")
			}
			if !ok {
				return nil, fmt.Errorf("%q: want KEY=VALUE", part)
			}
			out[key] = value
		}
		return out, nil
	}
	return given, nil
}
