package podrefs

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// place is a string of a PodSpec that names another object.
type place struct {
	path string
	set  func(spec *v1.PodSpec, name string)
}

// places walks the type: names are strings called Name below a field that says
// what they name, and strings that say it themselves.
func places(what string) []place {
	var out []place
	var walk func(t reflect.Type, path []string, at func(reflect.Value) reflect.Value)
	walk = func(t reflect.Type, path []string, at func(reflect.Value) reflect.Value) {
		switch t.Kind() {
		case reflect.Pointer:
			walk(t.Elem(), path, func(root reflect.Value) reflect.Value {
				p := at(root)
				if p.IsNil() {
					p.Set(reflect.New(t.Elem()))
				}
				return p.Elem()
			})
		case reflect.Slice:
			walk(t.Elem(), path, func(root reflect.Value) reflect.Value {
				s := at(root)
				if s.Len() == 0 {
					s.Set(reflect.MakeSlice(t, 1, 1))
				}
				return s.Index(0)
			})
		case reflect.Struct:
			for i := range t.NumField() {
				walk(t.Field(i).Type, append(slices.Clone(path), t.Field(i).Name), func(root reflect.Value) reflect.Value { return at(root).Field(i) })
			}
		case reflect.String:
			last, above := path[len(path)-1], strings.Join(path[:len(path)-1], ".")
			if last == what+"Name" || last == "Name" && strings.Contains(above[strings.LastIndex(above, "Sources")+1:], what) {
				out = append(out, place{strings.Join(path, "."), func(spec *v1.PodSpec, name string) { at(reflect.ValueOf(spec).Elem()).SetString(name) }})
			}
		}
	}
	walk(reflect.TypeFor[v1.PodSpec](), nil, func(v reflect.Value) reflect.Value { return v })
	return out
}

// Every place of a pod that can name a Secret or a ConfigMap is looked at: in
// containers of each kind, in their variables one by one and by the set, and in
// volumes of each type (CVE-2023-2728, CVE-2024-3177).
func TestEveryReferenceIsFound(t *testing.T) {
	for _, what := range []string{"Secret", "ConfigMap"} {
		all := places(what)
		if len(all) < 8 {
			t.Fatalf("the walk found %d places for a %s", len(all), what)
		}
		for _, p := range all {
			t.Run(p.path, func(t *testing.T) {
				spec := &v1.PodSpec{}
				p.set(spec, "x")
				found := slices.Collect(Secrets(spec))
				if what == "ConfigMap" {
					found = slices.Collect(ConfigMaps(spec))
				}
				if !slices.Equal(found, []string{"x"}) {
					t.Errorf("a %s is named at %s, and %q were found", what, p.path, found)
				}
			})
		}
	}
}
