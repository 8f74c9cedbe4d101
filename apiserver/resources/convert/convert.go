// Package convert turns an object of one API version into another where the two
// versions have the same shape: the same fields under the same names, of Go
// types that differ only in the package they are from.
package convert

import (
	"fmt"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/resources"
)

// copier writes src, of one type, into dst, of another of the same shape.
type copier func(dst, src reflect.Value)

// between returns a function that converts values of type src into dst, or the
// path of the first field that has no counterpart.
func between(dst, src reflect.Type) (copier, error) {
	return plan(dst, src, map[[2]reflect.Type]*copier{}, dst.String())
}

func plan(dst, src reflect.Type, seen map[[2]reflect.Type]*copier, path string) (copier, error) {
	if dst == src {
		return func(d, s reflect.Value) { d.Set(s) }, nil
	}
	key := [2]reflect.Type{dst, src}
	if c, ok := seen[key]; ok {
		return func(d, s reflect.Value) { (*c)(d, s) }, nil
	}
	if dst.Kind() != src.Kind() {
		return nil, fmt.Errorf("%s: %s and %s differ in kind", path, dst, src)
	}
	var made copier
	seen[key] = &made
	var err error
	switch dst.Kind() {
	case reflect.Struct:
		made, err = planStruct(dst, src, seen, path)
	case reflect.Pointer:
		var elem copier
		elem, err = plan(dst.Elem(), src.Elem(), seen, path)
		made = func(d, s reflect.Value) {
			if s.IsNil() {
				return
			}
			d.Set(reflect.New(dst.Elem()))
			elem(d.Elem(), s.Elem())
		}
	case reflect.Slice:
		var elem copier
		elem, err = plan(dst.Elem(), src.Elem(), seen, path+"[]")
		made = func(d, s reflect.Value) {
			if s.IsNil() {
				return
			}
			d.Set(reflect.MakeSlice(dst, s.Len(), s.Len()))
			for i := range s.Len() {
				elem(d.Index(i), s.Index(i))
			}
		}
	case reflect.Map:
		made, err = planMap(dst, src, seen, path)
	default:
		if !src.ConvertibleTo(dst) {
			return nil, fmt.Errorf("%s: %s does not convert to %s", path, src, dst)
		}
		made = func(d, s reflect.Value) { d.Set(s.Convert(dst)) }
	}
	return made, err
}

func planStruct(dst, src reflect.Type, seen map[[2]reflect.Type]*copier, path string) (copier, error) {
	if dst.NumField() != src.NumField() {
		return nil, fmt.Errorf("%s: %s has %d fields and %s has %d", path, dst, dst.NumField(), src, src.NumField())
	}
	fields := make([]copier, dst.NumField())
	from := make([]int, dst.NumField())
	for i := range dst.NumField() {
		name := dst.Field(i).Name
		f, ok := src.FieldByName(name)
		if !ok {
			return nil, fmt.Errorf("%s.%s: %s has no such field", path, name, src)
		}
		c, err := plan(dst.Field(i).Type, f.Type, seen, path+"."+name)
		if err != nil {
			return nil, err
		}
		fields[i], from[i] = c, f.Index[0]
	}
	return func(d, s reflect.Value) {
		for i, c := range fields {
			c(d.Field(i), s.Field(from[i]))
		}
	}, nil
}

func planMap(dst, src reflect.Type, seen map[[2]reflect.Type]*copier, path string) (copier, error) {
	key, err := plan(dst.Key(), src.Key(), seen, path+"{key}")
	if err != nil {
		return nil, err
	}
	elem, err := plan(dst.Elem(), src.Elem(), seen, path+"{}")
	if err != nil {
		return nil, err
	}
	return func(d, s reflect.Value) {
		if s.IsNil() {
			return
		}
		d.Set(reflect.MakeMapWithSize(dst, s.Len()))
		for iter := s.MapRange(); iter.Next(); {
			k, v := reflect.New(dst.Key()).Elem(), reflect.New(dst.Elem()).Elem()
			key(k, iter.Key())
			elem(v, iter.Value())
			d.SetMapIndex(k, v)
		}
	}, nil
}

// Func returns a conversion from From to To, whose group version kind is gvk.
// It fails when the two differ in shape.
func Func[To, From any, PTo resources.Object[To], PFrom resources.Object[From]](gvk schema.GroupVersionKind) func(runtime.Object) (runtime.Object, error) {
	compiled := sync.OnceValues(func() (copier, error) {
		return between(reflect.TypeFor[To](), reflect.TypeFor[From]())
	})
	return func(in runtime.Object) (runtime.Object, error) {
		from, ok := in.(PFrom)
		if !ok {
			return nil, fmt.Errorf("converting to %s: got a %T", gvk, in)
		}
		c, err := compiled()
		if err != nil {
			return nil, fmt.Errorf("converting to %s: %w", gvk, err)
		}
		// A copy, so that the two never share maps, slices or pointers.
		private := from.DeepCopyObject().(PFrom)
		to := PTo(new(To))
		c(reflect.ValueOf(to).Elem(), reflect.ValueOf(private).Elem())
		to.GetObjectKind().SetGroupVersionKind(gvk)
		return to, nil
	}
}

// Same is a version whose objects have the hub's shape. def is the hub's
// defaulting and may be nil.
func Same[V, H any, PV resources.Object[V], PH resources.Object[H]](gvk schema.GroupVersionKind, hub string, newList func() runtime.Object, def func(PH)) resources.Version {
	v := resources.Version{
		Name:         gvk.Version,
		New:          func() runtime.Object { return PV(new(V)) },
		NewList:      newList,
		ToHub:        Func[H, V, PH, PV](schema.GroupVersionKind{Group: gvk.Group, Version: hub, Kind: gvk.Kind}),
		FromHub:      Func[V, H, PV, PH](gvk),
		OffByDefault: true,
	}
	if def != nil {
		v.Default = func(obj runtime.Object) {
			h, err := v.ToHub(obj)
			if err != nil {
				return
			}
			def(h.(PH))
			back, err := v.FromHub(h)
			if err != nil {
				return
			}
			gvk := obj.GetObjectKind().GroupVersionKind()
			*obj.(PV) = *back.(PV)
			obj.GetObjectKind().SetGroupVersionKind(gvk)
		}
	}
	return v
}

// Fields copies src into dst, both pointers to values of the same shape, for
// hand-written conversions of which only a part differs.
func Fields(dst, src any) error {
	d, s := reflect.ValueOf(dst).Elem(), reflect.ValueOf(src).Elem()
	c, err := between(d.Type(), s.Type())
	if err != nil {
		return err
	}
	c(d, s)
	return nil
}
