package resources

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ratcheted is the validation of updates without the errors that the stored object
// has itself: rules become stricter, and an object from before must still take a
// label, a status, or the removal of a finalizer. A value that is wrong in a new
// way, or in one more place, is refused.
func ratcheted(validate func(ctx context.Context, obj, old runtime.Object) field.ErrorList) func(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	return func(ctx context.Context, obj, old runtime.Object) field.ErrorList {
		errs := validate(ctx, obj, old)
		if len(errs) == 0 {
			return errs
		}
		// What the rules say of an update that changes nothing. Each error of it
		// counts once, and at whatever index of its list: items may move.
		known := validate(ctx, old.DeepCopyObject(), old)
		return slices.DeleteFunc(errs, func(e *field.Error) bool {
			if e.Type == field.ErrorTypeForbidden && e.Field == wholeObject {
				return false // what is refused is the request, whatever it changes
			}
			i := slices.IndexFunc(known, func(k *field.Error) bool {
				return sameError(e, k) && (!omitted(e) || sameValue(obj, e.Field, old, k.Field))
			})
			if i < 0 {
				return false
			}
			known = slices.Delete(known, i, i+1)
			return true
		})
	}
}

// wholeObject is how errors name an object as a whole.
var wholeObject = field.NewPath("").String()

var listIndex = regexp.MustCompile(`\[\d+\]`)

func sameError(a, b *field.Error) bool {
	return a.Type == b.Type && a.Detail == b.Detail &&
		listIndex.ReplaceAllString(a.Field, "[]") == listIndex.ReplaceAllString(b.Field, "[]") &&
		equality.Semantic.DeepEqual(a.BadValue, b.BadValue)
}

// omitted tells whether an error keeps its value to itself.
func omitted(e *field.Error) bool {
	text, ok := e.BadValue.(string)
	_, omit := e.BadValue.(field.OmitValueType)
	return omit || ok && text == "<value omitted>"
}

// sameValue compares the fields of two objects.
func sameValue(a runtime.Object, atA string, b runtime.Object, atB string) bool {
	x, okX := valueAt(a, atA)
	y, okY := valueAt(b, atB)
	return okX && okY && equality.Semantic.DeepEqual(x, y)
}

// valueAt is the value of a field by the path that errors give it:
// "spec.ports[0].name", "data[key]".
func valueAt(obj runtime.Object, path string) (any, bool) {
	root, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, false
	}
	var at any = root
	for path != "" {
		var name string
		if rest, ok := strings.CutPrefix(path, "["); ok {
			if name, path, ok = strings.Cut(rest, "]"); !ok {
				return nil, false
			}
		} else {
			path = strings.TrimPrefix(path, ".")
			end := len(path)
			if i := strings.IndexAny(path, ".["); i >= 0 {
				end = i
			}
			name, path = path[:end], path[end:]
		}
		switch in := at.(type) {
		case map[string]any:
			at = in[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(in) {
				return nil, false
			}
			at = in[i]
		default:
			return nil, false
		}
	}
	return at, true
}
