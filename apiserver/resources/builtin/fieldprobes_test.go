package builtin_test

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A leaf is a field that holds no struct of the API: its steps from the object.
type leaf struct {
	steps []step
	typ   reflect.Type
	kind  string
}

// A step goes into a field, through pointers, and then into the one item of a
// list or map.
type step struct {
	index int
	json  string
	item  bool
}

func (l leaf) String() string {
	parts := make([]string, len(l.steps))
	for i, s := range l.steps {
		parts[i] = s.json
		if s.item {
			parts[i] += "[]"
		}
	}
	return strings.Join(parts, ".")
}

var whole = map[reflect.Type]bool{
	reflect.TypeFor[resource.Quantity](): true, reflect.TypeFor[intstr.IntOrString](): true, reflect.TypeFor[metav1.Time](): true,
	reflect.TypeFor[metav1.MicroTime](): true, reflect.TypeFor[metav1.Duration](): true, reflect.TypeFor[runtime.RawExtension](): true,
	reflect.TypeFor[metav1.FieldsV1](): true,
}

func leavesOf(t reflect.Type, at []step, seen []reflect.Type) []leaf {
	for _, s := range seen {
		if s == t {
			return nil
		}
	}
	seen = append(seen[:len(seen):len(seen)], t)
	var out []leaf
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Type == reflect.TypeFor[metav1.TypeMeta](), f.Type == reflect.TypeFor[metav1.ObjectMeta](), name == "-", !f.IsExported():
			continue
		case name == "" && !f.Anonymous && !strings.Contains(opts, "inline"):
			continue
		}
		s := step{index: i, json: name}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if k := inner.Kind(); (k == reflect.Slice || k == reflect.Map) && isAPI(inner.Elem()) {
			s.item = true
			inner = inner.Elem()
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
		}
		path := append(at[:len(at):len(at)], s)
		if isAPI(inner) {
			more := leavesOf(inner, path, seen)
			if name == "" {
				for j := range more {
					more[j].steps[len(at)].json = ""
				}
			}
			out = append(out, more...)
			continue
		}
		out = append(out, leaf{steps: path, typ: f.Type, kind: strings.ReplaceAll(f.Type.String(), " ", "")})
	}
	return out
}

// isAPI tells structs that have fields of their own to look at.
func isAPI(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct && !whole[t]
}

// reach is the leaf's value in obj; what is on the way is made.
// With filled, texts beside the way that are empty get a value, so that rules
// which come after theirs have their say.
func (l leaf) reach(obj runtime.Object, filled bool) (value reflect.Value, done func()) {
	v := reflect.ValueOf(obj).Elem()
	done = func() {}
	for i, s := range l.steps {
		if filled {
			fillTexts(v, s.index)
		}
		v = v.Field(s.index)
		if i == len(l.steps)-1 {
			break
		}
		v = made(v)
		if !s.item {
			continue
		}
		switch v.Kind() {
		case reflect.Slice:
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			}
			v = made(v.Index(0))
		case reflect.Map:
			if v.Len() == 0 {
				v.Set(reflect.MakeMap(v.Type()))
				v.SetMapIndex(reflect.ValueOf("k").Convert(v.Type().Key()), reflect.Zero(v.Type().Elem()))
			}
			key, m, inner := v.MapKeys()[0], v, done
			item := reflect.New(v.Type().Elem()).Elem()
			item.Set(v.MapIndex(key))
			done = func() { m.SetMapIndex(key, item); inner() }
			v = made(item)
		}
	}
	return v, done
}

func fillTexts(v reflect.Value, except int) {
	for i := range v.NumField() {
		f := v.Field(i)
		if i == except || !f.CanSet() || !f.IsZero() {
			continue
		}
		switch {
		case f.Kind() == reflect.String:
			f.SetString("a")
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.String:
			f.Set(reflect.Append(reflect.MakeSlice(f.Type(), 0, 1), reflect.ValueOf("a").Convert(f.Type().Elem())))
		case f.Kind() == reflect.Struct && v.Type().Field(i).Anonymous && f.Type() != reflect.TypeFor[metav1.TypeMeta]() && f.Type() != reflect.TypeFor[metav1.ObjectMeta]():
			fillTexts(f, -1)
		}
	}
}

func made(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	return v.Elem()
}

// probes are values of a leaf's type: nothing, something fine, and the kinds of
// wrong that rules are about.
func probes(t reflect.Type) []reflect.Value {
	out := []reflect.Value{reflect.Zero(t)}
	pointer := t.Kind() == reflect.Pointer
	inner := t
	if pointer {
		inner = t.Elem()
	}
	add := func(v reflect.Value) {
		if pointer {
			p := reflect.New(inner)
			p.Elem().Set(v)
			v = p
		}
		out = append(out, v)
	}
	of := func(x any) { add(reflect.ValueOf(x).Convert(inner)) }
	switch reflect.Zero(inner).Interface().(type) {
	case resource.Quantity:
		of(resource.MustParse("-1"))
		of(resource.MustParse("2"))
		of(resource.MustParse("1500m"))
		return out
	case intstr.IntOrString:
		of(intstr.FromInt32(-1))
		of(intstr.FromInt32(70000))
		of(intstr.FromString("Bad Value!"))
		of(intstr.FromString("200%"))
		return out
	case metav1.Time:
		of(metav1.NewTime(time.Unix(1, 0)))
		return out
	case metav1.MicroTime:
		of(metav1.NewMicroTime(time.Unix(1, 0)))
		return out
	case metav1.Duration:
		of(metav1.Duration{Duration: -time.Second})
		return out
	case runtime.RawExtension:
		of(runtime.RawExtension{Raw: []byte(`{"a":`)})
		of(runtime.RawExtension{Raw: []byte(`{"apiVersion":"v1"}`)})
		return out
	case metav1.FieldsV1:
		return out
	}
	switch inner.Kind() {
	case reflect.String:
		for _, s := range []string{"", "a", "Bad Value\n~/", "../etc", strings.Repeat("a", 300), strings.Repeat("a", 20000)} {
			of(s)
		}
	case reflect.Bool:
		of(true)
		if pointer {
			of(false)
		}
	case reflect.Int32, reflect.Int64, reflect.Int, reflect.Uint32, reflect.Uint8, reflect.Uint64:
		for _, n := range []int64{0, 1, 7, 70000} {
			of(n)
		}
		if inner.Kind() == reflect.Int32 || inner.Kind() == reflect.Int64 || inner.Kind() == reflect.Int {
			of(int64(-1))
			of(int64(1<<31 - 1))
		}
	case reflect.Float64:
		of(-1.5)
	case reflect.Slice:
		if inner.Elem().Kind() == reflect.Uint8 {
			of([]byte("no such thing"))
			of(make([]byte, 2<<20))
			break
		}
		for _, item := range probes(inner.Elem()) {
			for _, n := range []int{1, 2, 3} {
				list := reflect.MakeSlice(inner, 0, n)
				for range n {
					list = reflect.Append(list, item)
				}
				add(list)
			}
		}
		add(reflect.MakeSlice(inner, 0, 0))
		add(reflect.MakeSlice(inner, 2000, 2000))
	case reflect.Map:
		keys := []string{"k", "Bad Key\n/", strings.Repeat("k", 600)}
		for _, item := range probes(inner.Elem()) {
			for _, key := range keys {
				m := reflect.MakeMap(inner)
				m.SetMapIndex(reflect.ValueOf(key).Convert(inner.Key()), item)
				add(m)
			}
		}
		large := reflect.MakeMap(inner)
		for i := range 1000 {
			large.SetMapIndex(reflect.ValueOf(fmt.Sprint("k", i)).Convert(inner.Key()), reflect.Zero(inner.Elem()))
		}
		add(large)
	}
	return out
}
