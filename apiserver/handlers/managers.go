package handlers

import (
	"fmt"
	"net/http"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"skiff/apiserver/resources"
)

type managerKey struct{ version, subresource string }

// manager is the field manager of the target's version and subresource.
func (a *API) manager(t *Target, s *resources.Strategy) (*managedfields.FieldManager, error) {
	key := managerKey{t.Version.Name, t.Subresource}
	e := t.entry
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.managers[key]; m != nil {
		return m, nil
	}
	c := versions{t.Resource}
	reset := map[fieldpath.APIVersion]fieldpath.Filter{}
	if len(s.ResetFields) > 0 {
		paths := make([]fieldpath.Path, len(s.ResetFields))
		for i, text := range s.ResetFields {
			paths[i] = pathOf(text)
		}
		for i := range t.Resource.Versions {
			gv := schema.GroupVersion{Group: t.Resource.Group, Version: t.Resource.Versions[i].Name}
			reset[fieldpath.APIVersion(gv.String())] = fieldpath.NewExcludeSetFilter(fieldpath.NewSet(paths...))
		}
	}
	make := managedfields.NewDefaultFieldManager
	if t.untyped() {
		make = managedfields.NewDefaultCRDFieldManager
	}
	hub := schema.GroupVersion{Group: t.Resource.Group, Version: t.Resource.Hub}
	m, err := make(a.types(t), c, c, c, t.GVK(), hub, t.Subresource, reset)
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", t.GVR(), err)
	}
	e.managers[key] = m
	return m, nil
}

// untyped tells whether the resource's objects have no Go type.
func (t *Target) untyped() bool {
	_, is := t.Version.New().(*unstructured.Unstructured)
	return is
}

// types knows how the resource's objects merge.
func (a *API) types(t *Target) managedfields.TypeConverter {
	switch {
	case !t.untyped():
		return a.conv()
	case t.Resource.TypeConverter != nil:
		return t.Resource.TypeConverter()
	}
	return managedfields.NewDeducedTypeConverter()
}

// bodyTypes knows how the objects of requests merge: those of some subresources
// of custom resources, as Scale, are of a built-in kind.
func (a *API) bodyTypes(t *Target) managedfields.TypeConverter {
	if t.GVK().Group != t.Resource.Group {
		return a.conv()
	}
	return a.types(t)
}

// pathOf reads "metadata.labels" as a path of fields.
func pathOf(text string) fieldpath.Path {
	var parts []any
	start := 0
	for i := 0; i <= len(text); i++ {
		if i == len(text) || text[i] == '.' {
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return fieldpath.MakePathOrDie(parts...)
}

// versions converts, defaults and makes the objects of one resource for the
// field manager, which works in versions.
type versions struct{ r *resources.Resource }

type version struct{ *resources.Version }

func (v versions) find(gv schema.GroupVersion) (version, error) {
	for i := range v.r.Versions {
		if ver := &v.r.Versions[i]; v.r.Group == gv.Group && ver.Name == gv.Version {
			return version{ver}, nil
		}
	}
	return version{}, runtime.NewNotRegisteredErrForKind("skiff", gv.WithKind(v.r.Kind))
}

// goType makes an object of the version's Go type of an unstructured one.
func (v version) goType(obj runtime.Object) (runtime.Object, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	out := v.New()
	if _, untyped := out.(*unstructured.Unstructured); untyped {
		return obj, nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, out); err != nil {
		return nil, err
	}
	return out, nil
}

// New implements runtime.ObjectCreater.
func (v versions) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	ver, err := v.find(kind.GroupVersion())
	if err != nil {
		return nil, err
	}
	obj := ver.New()
	obj.GetObjectKind().SetGroupVersionKind(kind)
	return obj, nil
}

// Default implements runtime.ObjectDefaulter.
func (v versions) Default(obj runtime.Object) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if ver, err := v.find(gvk.GroupVersion()); err == nil && ver.Default != nil {
		ver.Default(obj)
	}
}

// ConvertToVersion implements runtime.ObjectConvertor. Objects without a type
// are of the hub.
func (v versions) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	from := in.GetObjectKind().GroupVersionKind()
	hubGVK := schema.GroupVersionKind{Group: v.r.Group, Version: v.r.Hub, Kind: v.r.Kind}
	if from.Empty() {
		from = hubGVK
	}
	to, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{from})
	if !ok {
		kinds := make([]schema.GroupVersionKind, len(v.r.Versions))
		for i := range v.r.Versions {
			kinds[i] = schema.GroupVersionKind{Group: v.r.Group, Version: v.r.Versions[i].Name, Kind: v.r.Kind}
		}
		if to, ok = target.KindForGroupVersionKinds(kinds); !ok {
			return nil, runtime.NewNotRegisteredErrForTarget("skiff", nil, target)
		}
	}
	src, err := v.find(from.GroupVersion())
	if err != nil {
		return nil, err
	}
	// What was merged comes without a Go type.
	if in, err = src.goType(in); err != nil {
		return nil, err
	}
	out := in
	if from.Version != to.Version {
		dst, err := v.find(to.GroupVersion())
		if err != nil {
			return nil, err
		}
		if src.ToHub != nil {
			if out, err = src.ToHub(out); err != nil {
				return nil, err
			}
		}
		if dst.FromHub != nil {
			if out, err = dst.FromHub(out); err != nil {
				return nil, err
			}
		}
	}
	if out.GetObjectKind().GroupVersionKind() != to {
		if out == in {
			out = in.DeepCopyObject()
		}
		out.GetObjectKind().SetGroupVersionKind(to)
	}
	return out, nil
}

// Convert implements runtime.ObjectConvertor.
func (v versions) Convert(_, _, _ any) error {
	return fmt.Errorf("resource %s: objects convert by version only", v.r.GroupResource())
}

// ConvertFieldLabel implements runtime.ObjectConvertor.
func (v versions) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// track records in managedFields what a write other than an apply changed. It
// works in the version of the request. The result is of the hub.
func (a *API) track(t *Target, s *resources.Strategy, old, obj runtime.Object, manager string) (runtime.Object, error) {
	m, err := a.manager(t, s)
	if err != nil {
		return nil, err
	}
	before, err := t.withType(old)
	if err != nil {
		return nil, err
	}
	after, err := t.withType(obj)
	if err != nil {
		return nil, err
	}
	out := m.UpdateNoErrors(before, after, manager)
	return t.fromTyped(obj, out)
}

// Made notes in an object that a connector answers with, and that is not kept, who
// sent its fields: as of a create, before anything else is made of it. It has the
// kind gvk, which need not be the target's.
func (a *API) Made(r *http.Request, t *Target, gvk schema.GroupVersionKind, obj metav1.Object) error {
	m, err := a.madeManager(t, gvk, obj)
	if err != nil {
		return err
	}
	in, ok := obj.(runtime.Object)
	if !ok {
		return fmt.Errorf("managed fields of %s: %T is no object", gvk.Kind, obj)
	}
	typed := in.DeepCopyObject()
	typed.GetObjectKind().SetGroupVersionKind(gvk)
	none := newLike(in)
	none.GetObjectKind().SetGroupVersionKind(gvk)
	out, err := metaOf(m.UpdateNoErrors(none, typed, managerName(r.URL.Query().Get("fieldManager"), r)))
	if err != nil {
		return err
	}
	obj.SetManagedFields(out.GetManagedFields())
	return nil
}

func newLike(obj any) runtime.Object {
	return reflect.New(reflect.TypeOf(obj).Elem()).Interface().(runtime.Object)
}

// madeManager is the field manager of objects that a connector answers with.
func (a *API) madeManager(t *Target, gvk schema.GroupVersionKind, obj any) (*managedfields.FieldManager, error) {
	key := managerKey{gvk.Version, t.Subresource}
	e := t.entry
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := e.managers[key]; m != nil {
		return m, nil
	}
	c := versions{&resources.Resource{Group: gvk.Group, Kind: gvk.Kind, Hub: gvk.Version, Versions: []resources.Version{
		{Name: gvk.Version, New: func() runtime.Object { return newLike(obj) }},
	}}}
	// The schemas that objects merge by are of kinds that can be applied, which these
	// are not: theirs is what they look like.
	m, err := managedfields.NewDefaultFieldManager(managedfields.NewDeducedTypeConverter(), c, c, c, gvk, gvk.GroupVersion(), t.Subresource, nil)
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", gvk.Kind, err)
	}
	e.managers[key] = m
	return m, nil
}

// withType is a hub object in the request's version with its type set, as the
// field manager wants it. The object itself keeps no type.
func (t *Target) withType(hub runtime.Object) (runtime.Object, error) {
	obj, err := t.version(hub)
	if err != nil {
		return nil, err
	}
	if obj == hub {
		obj = shallow(hub)
	}
	obj.GetObjectKind().SetGroupVersionKind(t.GVK())
	return obj, nil
}

// fromTyped takes the managed fields that the field manager computed over to
// the hub object, or the whole object when it was merged.
func (t *Target) fromTyped(hub, computed runtime.Object) (runtime.Object, error) {
	src, err := metaOf(computed)
	if err != nil {
		return nil, err
	}
	dst, err := metaOf(hub)
	if err != nil {
		return nil, err
	}
	dst.SetManagedFields(src.GetManagedFields())
	return hub, nil
}
