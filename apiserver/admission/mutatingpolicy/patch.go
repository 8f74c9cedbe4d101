package mutatingpolicy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"google.golang.org/protobuf/types/known/structpb"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	arv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/cel/mutation"
	"k8s.io/apiserver/pkg/cel/mutation/dynamic"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/policy"
	"skiff/apiserver/admission/webhook"
)

// apply is an object after one mutation.
func (p *Plugin) apply(ctx context.Context, m *arv1.Mutation, values map[string]any, a *admission.Attributes, obj runtime.Object) (runtime.Object, error) {
	switch {
	case m.PatchType == arv1.PatchTypeJSONPatch && m.JSONPatch != nil:
		out, err := p.engine.Eval(ctx, m.JSONPatch.Expression, values)
		if err != nil {
			return nil, policy.Failed(m.JSONPatch.Expression, err)
		}
		return patchJSON(out, obj)
	case m.PatchType == arv1.PatchTypeApplyConfiguration && m.ApplyConfiguration != nil:
		out, err := p.engine.Eval(ctx, m.ApplyConfiguration.Expression, values)
		if err != nil {
			return nil, policy.Failed(m.ApplyConfiguration.Expression, err)
		}
		return merge(out, obj, a.TypeConverter)
	}
	return nil, fmt.Errorf("patchType %q: want JSONPatch or ApplyConfiguration with an expression", m.PatchType)
}

// merge applies Object{…} as server-side apply would, without ownership.
func merge(out ref.Val, obj runtime.Object, converter func() managedfields.TypeConverter) (runtime.Object, error) {
	if converter == nil {
		return nil, errors.New("apply configuration: nothing is known of how the object merges; use a JSON patch")
	}
	o, ok := out.(*dynamic.ObjectVal)
	if !ok {
		return nil, fmt.Errorf("the expression gives %s, want Object", out.Type().TypeName())
	}
	if err := o.CheckTypeNamesMatchFieldPathNames(); err != nil {
		return nil, fmt.Errorf("type mismatch: %w", err)
	}
	fields, ok := o.Value().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the expression gives %T, want an object", o.Value())
	}
	want := &unstructured.Unstructured{Object: fields}
	want.SetGroupVersionKind(obj.GetObjectKind().GroupVersionKind())
	merged, err := patch.ApplyStructuredMergeDiff(converter(), obj, want)
	if err != nil {
		return nil, fmt.Errorf("error applying patch: %w", err)
	}
	if u, ok := merged.(*unstructured.Unstructured); ok {
		if _, same := obj.(*unstructured.Unstructured); !same {
			typed, ok := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(runtime.Object)
			if !ok {
				return nil, fmt.Errorf("unexpected type %T", obj)
			}
			return typed, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed)
		}
	}
	return merged, nil
}

// patchJSON applies a list of JSONPatch{…}. A failed test leaves the object as it is.
func patchJSON(out ref.Val, obj runtime.Object) (runtime.Object, error) {
	list, ok := out.(traits.Lister)
	if !ok {
		return nil, fmt.Errorf("the expression gives %s, want a list of JSONPatch", out.Type().TypeName())
	}
	var ops jsonpatch.Patch
	for it := list.Iterator(); it.HasNext() == types.True; {
		v, ok := it.Next().(*mutation.JSONPatchVal)
		if !ok {
			return nil, errors.New("the expression gives a list with something else than JSONPatch")
		}
		op, err := operation(v)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	next, err := webhook.Patched(obj, ops, true)
	if errors.Is(err, jsonpatch.ErrTestFailed) {
		return obj, nil
	}
	var unreadable webhook.Unreadable
	if errors.As(err, &unreadable) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("JSON Patch: %w", err)
	}
	return next, nil
}

func operation(v *mutation.JSONPatchVal) (jsonpatch.Operation, error) {
	op := jsonpatch.Operation{}
	set := func(name string, value any) error {
		b, err := json.Marshal(value)
		op[name] = (*json.RawMessage)(&b)
		return err
	}
	if err := errors.Join(set("op", v.Op), set("path", v.Path)); err != nil {
		return nil, err
	}
	if v.From != "" {
		if err := set("from", v.From); err != nil {
			return nil, err
		}
	}
	if v.Val == nil {
		return op, nil
	}
	if o, ok := v.Val.(*dynamic.ObjectVal); ok {
		if err := o.CheckTypeNamesMatchFieldPathNames(); err != nil {
			return nil, fmt.Errorf("type mismatch: %w", err)
		}
	}
	native, err := v.Val.ConvertToNative(reflect.TypeFor[*structpb.Value]())
	if err != nil {
		return nil, fmt.Errorf("the value at %s is no JSON: %w", v.Path, err)
	}
	return op, set("value", native)
}
