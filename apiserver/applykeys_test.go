package apiserver

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"skiff/apiserver/openapi"
	"skiff/apiserver/resources/builtin"
)

// keyedList is a list of a kind whose items have keys, as it is published.
type keyedList struct {
	path []listStep
	keys []string
	item *spec.Schema
}

// A listStep goes into a field, and from there into the item of a list with keys
// of its own, or of a map.
type listStep struct {
	name string
	keys map[string]any // nil where it is no list
	key  string         // of a map's item
}

func (l keyedList) String() string {
	var names []string
	for _, s := range l.path {
		names = append(names, s.name)
	}
	return strings.Join(names, ".") + " by " + strings.Join(l.keys, ",")
}

// published finds the lists by walking the published schemas.
type published map[string]*spec.Schema

func (p published) resolve(s *spec.Schema) (*spec.Schema, string) {
	ref := s.Ref.String()
	if ref == "" && len(s.AllOf) == 1 {
		ref = s.AllOf[0].Ref.String()
	}
	if ref == "" {
		return s, ""
	}
	name := ref[strings.LastIndex(ref, "/")+1:]
	return p[name], name
}

func (p published) kind(gvk schema.GroupVersionKind) *spec.Schema {
	for _, s := range p {
		list, _ := s.Extensions["x-kubernetes-group-version-kind"].([]any)
		for _, v := range list {
			m, _ := v.(map[string]any)
			if m["group"] == gvk.Group && m["version"] == gvk.Version && m["kind"] == gvk.Kind {
				return s
			}
		}
	}
	return nil
}

// lists are the keyed lists below a schema. within are the schemas around it:
// one that holds itself is walked once.
func (p published) lists(s *spec.Schema, path []listStep, within []string) []keyedList {
	var out []keyedList
	for name := range s.Properties {
		field := s.Properties[name]
		out = append(out, p.below(&field, append(slices.Clone(path), listStep{name: name}), within)...)
	}
	return out
}

func (p published) below(field *spec.Schema, path []listStep, within []string) []keyedList {
	last := &path[len(path)-1]
	s, name := p.resolve(field)
	if s == nil || name != "" && slices.Contains(within, name) || ownedWhole(field) || ownedWhole(s) {
		return nil
	}
	if name != "" {
		within = append(slices.Clone(within), name)
	}
	switch {
	case s.Type.Contains("array") && s.Extensions["x-kubernetes-list-type"] == "map":
		var keys []string
		for _, k := range s.Extensions["x-kubernetes-list-map-keys"].([]any) {
			keys = append(keys, k.(string))
		}
		item, name := p.resolve(s.Items.Schema)
		out := []keyedList{{path, keys, item}}
		if slices.Contains(within, name) {
			return out
		}
		inner := slices.Clone(path)
		inner[len(inner)-1] = listStep{name: last.name, keys: keysOf(item, keys, "", 7)}
		return append(out, p.lists(item, inner, append(slices.Clone(within), name))...)
	case s.Type.Contains("array"):
		return nil // one manager has all of it
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		inner := slices.Clone(path)
		inner[len(inner)-1].key = "k"
		value, name := p.resolve(s.AdditionalProperties.Schema)
		if value == nil || name == "" || slices.Contains(within, name) {
			return nil
		}
		return p.lists(value, inner, append(slices.Clone(within), name))
	}
	return p.lists(s, path, within)
}

func ownedWhole(s *spec.Schema) bool {
	return s.Extensions["x-kubernetes-map-type"] == "atomic" || s.Extensions["x-kubernetes-list-type"] == "atomic"
}

// keysOf are an item's keys. The one that differs, if any, has n's value.
func keysOf(item *spec.Schema, keys []string, differs string, n int) map[string]any {
	out := map[string]any{}
	for _, k := range keys {
		i := n
		if differs != "" && k != differs {
			i = 1
		}
		field := item.Properties[k]
		switch {
		case field.Type.Contains("integer"):
			out[k] = int64(i)
		case field.Type.Contains("boolean"):
			out[k] = i%2 == 0
		default:
			out[k] = fmt.Sprint("v", i)
		}
	}
	return out
}

// object holds items in the list; nil leaves the list out.
func (l keyedList) object(gvk schema.GroupVersionKind, items ...any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	if items != nil {
		at := u.Object
		for _, s := range l.path[:len(l.path)-1] {
			inner := map[string]any{}
			switch {
			case s.keys != nil:
				for k, v := range s.keys {
					inner[k] = v
				}
				at[s.name] = []any{inner}
			case s.key != "":
				at[s.name] = map[string]any{s.key: inner}
			default:
				at[s.name] = inner
			}
			at = inner
		}
		at[l.path[len(l.path)-1].name] = items
	}
	u.SetGroupVersionKind(gvk)
	u.SetName("a")
	return u
}

// items reads the list of what is live.
func (l keyedList) items(obj runtime.Object) []any {
	u, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil
	}
	var at any = u
	for i, s := range l.path {
		m, _ := at.(map[string]any)
		at = m[s.name]
		if i == len(l.path)-1 {
			break
		}
		if s.keys != nil {
			list, _ := at.([]any)
			if len(list) == 0 {
				return nil
			}
			at = list[0]
		} else if s.key != "" {
			m, _ := at.(map[string]any)
			at = m[s.key]
		}
	}
	list, _ := at.([]any)
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return list
}

// TestTwoManagersOfEveryKeyedList lets two managers apply an item each to every
// keyed list of every built-in kind, by the keys that OpenAPI publishes: items that
// differ in one key only. Both stay; when one manager gives its item up it goes,
// and the other's stays.
//
// Covers: api.apply-keys
func TestTwoManagersOfEveryKeyedList(t *testing.T) {
	docs := openapi.New("test")
	all := builtin.Resources()
	var described []openapi.Served
	for i := range all {
		s := openapi.Served{Resource: &all[i]}
		for j := range all[i].Versions {
			s.Versions = append(s.Versions, all[i].Versions[j].Name)
		}
		described = append(described, s)
	}
	docs.Set(described)
	types := newBuiltinTypes(docs)
	models := map[schema.GroupVersion]published{}
	lists := 0
	for _, s := range described {
		if !slices.Contains(s.Resource.Verbs, "patch") {
			continue
		}
		for _, version := range s.Versions {
			gvk := schema.GroupVersionKind{Group: s.Resource.Group, Version: version, Kind: s.Resource.Kind}
			if models[gvk.GroupVersion()] == nil {
				path := "apis/" + gvk.GroupVersion().String()
				if gvk.Group == "" {
					path = "api/" + version
				}
				m, err := docs.Models(path)
				if err != nil {
					t.Fatal(err)
				}
				models[gvk.GroupVersion()] = m
			}
			p := models[gvk.GroupVersion()]
			root := p.kind(gvk)
			if root == nil {
				t.Errorf("%s is not published", gvk)
				continue
			}
			for _, l := range p.lists(root, nil, nil) {
				lists++
				for _, key := range l.keys {
					if err := l.share(types, gvk, key); err != nil {
						t.Errorf("%s: %s: items that differ in %s: %v", gvk, l, key, err)
					}
				}
			}
		}
	}
	if lists < 400 {
		t.Errorf("only %d lists were found", lists)
	}
}

// share is two managers' work on one list.
func (l keyedList) share(types managedfields.TypeConverter, gvk schema.GroupVersionKind, key string) error {
	m := managedfieldstest.NewTestFieldManager(types, gvk)
	one, two := keysOf(l.item, l.keys, key, 1), keysOf(l.item, l.keys, key, 2)
	both := l.object(gvk, any(one), any(two))
	for _, step := range []struct {
		manager string
		obj     *unstructured.Unstructured
		want    *unstructured.Unstructured
	}{
		{"one", l.object(gvk, any(one)), l.object(gvk, any(one))},
		{"two", l.object(gvk, any(two)), both},
		{"one", l.object(gvk, any(one)), both},
		{"one", l.object(gvk), l.object(gvk, any(two))},
	} {
		if err := m.Apply(step.obj, step.manager, false); err != nil {
			return fmt.Errorf("manager %s: %w", step.manager, err)
		}
		if diff := cmp.Diff(l.items(step.want), l.items(m.Live())); diff != "" {
			return fmt.Errorf("after manager %s (-want +got):\n%s", step.manager, diff)
		}
	}
	return nil
}
