package customresource

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	genericvalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	apimachineryvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"

	"skiff/apiserver/request"
	"skiff/apiserver/resources"
)

// asked is the version that the request speaks; the hub where there is none. Rules
// are those of this version.
func (k *kind) asked(ctx context.Context) *version {
	info := request.InfoFrom(ctx)
	if info == nil || info.APIGroup != k.crd.Spec.Group || info.Resource != k.crd.Status.AcceptedNames.Plural {
		return k.hub
	}
	if v := k.versions[info.APIVersion]; v != nil {
		return v
	}
	return k.hub
}

func (k *kind) anyStatus() bool {
	for _, v := range k.versions {
		if v.hasStatus() {
			return true
		}
	}
	return false
}

// strategy is the main endpoint's.
func (k *kind) strategy() resources.Strategy {
	s := resources.Strategy{
		Generation:        true,
		Metadata:          resources.MetadataRules{AnyFinalizer: true},
		GenerationChanged: contentChanged,
		PrepareForCreate: func(ctx context.Context, obj runtime.Object) {
			if k.asked(ctx).hasStatus() {
				delete(content(obj), "status")
			}
		},
		PrepareForUpdate: func(ctx context.Context, obj, old runtime.Object) {
			if k.asked(ctx).hasStatus() {
				keep(content(obj), content(old), "status")
			}
		},
		Validate: func(ctx context.Context, obj runtime.Object) field.ErrorList {
			return k.check(ctx, obj, nil, (*version).validate)
		},
		ValidateUpdate: func(ctx context.Context, obj, old runtime.Object) field.ErrorList {
			return k.check(ctx, obj, old, (*version).validateUpdate)
		},
		Warnings: func(_ context.Context, obj, old runtime.Object) []string { return finalizerWarnings(obj, old) },
	}
	if k.anyStatus() {
		s.ResetFields = []string{"status"}
	}
	return s
}

// statusStrategy lets nothing through but the status.
func (k *kind) statusStrategy() resources.Strategy {
	return resources.Strategy{
		Metadata:    resources.MetadataRules{AnyFinalizer: true},
		ResetFields: []string{"metadata", "spec"},
		PrepareForUpdate: func(_ context.Context, obj, old runtime.Object) {
			u, ok := obj.(*unstructured.Unstructured)
			was, ok2 := old.(*unstructured.Unstructured)
			if !ok || !ok2 {
				return
			}
			status, has := u.Object["status"]
			managers := u.GetManagedFields()
			u.Object = runtime.DeepCopyJSON(was.Object)
			u.SetManagedFields(managers)
			delete(u.Object, "status")
			if has {
				u.Object["status"] = status
			}
		},
		ValidateUpdate: func(ctx context.Context, obj, old runtime.Object) field.ErrorList {
			return k.check(ctx, obj, old, (*version).validateStatus)
		},
	}
}

func content(obj runtime.Object) map[string]any {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return map[string]any{}
	}
	return u.Object
}

// keep takes a field over from the old object.
func keep(obj, old map[string]any, name string) {
	if v, ok := old[name]; ok {
		obj[name] = v
		return
	}
	delete(obj, name)
}

// contentChanged: everything but metadata counts as a new generation.
func contentChanged(obj, old runtime.Object) bool {
	bare := func(o runtime.Object) map[string]any {
		m := maps.Clone(content(o))
		for _, name := range []string{"metadata", "kind", "apiVersion"} {
			delete(m, name)
		}
		return m
	}
	return !equality.Semantic.DeepEqual(bare(obj), bare(old))
}

// checked is an object in the version whose rules it is checked against.
type checked struct {
	*rules
	shape    *structural.Structural
	obj, old map[string]any
	// meta is what is wrong with metadata. It is told with every kind's.
	meta field.ErrorList
}

// check applies a version's rules to an object in that version.
func (k *kind) check(ctx context.Context, obj, old runtime.Object, apply func(*version, context.Context, checked) field.ErrorList) field.ErrorList {
	v := k.asked(ctx)
	r, err := v.rules()
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	c := checked{rules: r}
	if c.shape, err = v.shape(); err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	in := func(o runtime.Object) (map[string]any, error) {
		if o == nil {
			return nil, nil
		}
		out, err := k.converted(o, v)
		if err != nil {
			return nil, err
		}
		return content(out), nil
	}
	if c.obj, err = in(obj); err == nil {
		c.old, err = in(old)
	}
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	c.meta = k.metadata(obj, old)
	return apply(v, ctx, c)
}

// metadata is what the rules of every kind say of an object's metadata.
func (k *kind) metadata(obj, old runtime.Object) field.ErrorList {
	at := field.NewPath("metadata")
	m, err := meta.Accessor(obj)
	if err != nil {
		return field.ErrorList{field.InternalError(at, err)}
	}
	errs := genericvalidation.ValidateObjectMetaAccessor(m, k.namespaced(), genericvalidation.NameIsDNSSubdomain, at)
	if old != nil {
		was, err := meta.Accessor(old)
		if err != nil {
			return field.ErrorList{field.InternalError(at, err)}
		}
		errs = append(errs, genericvalidation.ValidateObjectMetaAccessorUpdate(m, was, at)...)
	}
	return errs
}

func (v *version) validate(ctx context.Context, c checked) field.ErrorList {
	errs := validation.ValidateCustomResource(nil, c.obj, c.schema)
	errs = append(errs, v.validateScaleSpec(c.obj)...)
	errs = append(errs, v.validateScaleStatus(c.obj)...)
	errs = append(errs, objectmeta.Validate(ctx, nil, c.obj, c.shape, false)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, c.shape, c.obj)...)
	return append(errs, c.celRules(ctx, errs, nil)...)
}

func (v *version) validateUpdate(ctx context.Context, c checked) field.ErrorList {
	same := common.NewCorrelatedObject(c.obj, c.old, &model.Structural{Structural: c.shape})
	errs := validation.ValidateCustomResourceUpdate(nil, c.obj, c.old, c.schema, validation.WithRatcheting(same))
	errs = append(errs, v.validateScaleSpec(c.obj)...)
	errs = append(errs, v.validateScaleStatus(c.obj)...)
	errs = append(errs, objectmeta.Validate(ctx, nil, c.obj, c.shape, false)...)
	errs = append(errs, c.lists()...)
	return append(errs, c.celRules(ctx, errs, same)...)
}

func (v *version) validateStatus(ctx context.Context, c checked) field.ErrorList {
	same := common.NewCorrelatedObject(c.obj, c.old, &model.Structural{Structural: c.shape})
	var errs field.ErrorList
	if status, ok := c.obj["status"]; ok {
		var o []validation.ValidationOption
		if c.shape != nil {
			o = append(o, validation.WithRatcheting(same.Key("status")))
		}
		errs = append(errs, validation.ValidateCustomResourceUpdate(field.NewPath("status"), status, c.old["status"], c.status, o...)...)
	}
	errs = append(errs, v.validateScaleStatus(c.obj)...)
	errs = append(errs, c.lists()...)
	return append(errs, c.celRules(ctx, errs, same)...)
}

// lists are the errors about sets and maps that the update brings in.
func (c checked) lists() field.ErrorList {
	errs := listtype.ValidateListSetsAndMaps(nil, c.shape, c.obj)
	if len(errs) > 0 && len(listtype.ValidateListSetsAndMaps(nil, c.shape, c.old)) > 0 {
		return nil
	}
	return errs
}

// celRules evaluates the rules, which presuppose the shape that the errors so far
// are about.
func (c checked) celRules(ctx context.Context, soFar field.ErrorList, same *common.CorrelatedObject) field.ErrorList {
	if c.cel == nil {
		return nil
	}
	for _, err := range append(slices.Clone(soFar), c.meta...) {
		switch err.Type {
		case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
			return field.ErrorList{field.Invalid(nil, nil, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation")}
		}
	}
	var o []cel.Option
	var old any
	if same != nil {
		o = append(o, cel.WithRatcheting(same))
		old = c.old
	}
	errs, _ := c.cel.Validate(ctx, nil, c.shape, c.obj, old, celconfig.RuntimeCELCostBudget, o...)
	return errs
}

func (v *version) scale() *v1.CustomResourceSubresourceScale {
	if v.Subresources == nil {
		return nil
	}
	return v.Subresources.Scale
}

func (v *version) validateScaleSpec(obj map[string]any) field.ErrorList {
	if s := v.scale(); s != nil {
		return validateReplicas(obj, s.SpecReplicasPath)
	}
	return nil
}

func (v *version) validateScaleStatus(obj map[string]any) field.ErrorList {
	s := v.scale()
	if s == nil {
		return nil
	}
	errs := validateReplicas(obj, s.StatusReplicasPath)
	if p := s.LabelSelectorPath; p != nil {
		if text, _, err := unstructured.NestedString(obj, splitPath(*p)...); err != nil {
			errs = append(errs, field.Invalid(field.NewPath(*p), text, err.Error()))
		}
	}
	return errs
}

func validateReplicas(obj map[string]any, path string) field.ErrorList {
	at := field.NewPath(path)
	n, _, err := unstructured.NestedInt64(obj, splitPath(path)...)
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(at, n, err.Error())}
	case n < 0:
		return field.ErrorList{field.Invalid(at, n, "should be a non-negative integer")}
	case n > math.MaxInt32:
		return field.ErrorList{field.Invalid(at, n, fmt.Sprintf("should be less than or equal to %v", math.MaxInt32))}
	}
	return nil
}

// finalizerWarnings are about the names of finalizers that are new.
func finalizerWarnings(obj, old runtime.Object) []string {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	var had []string
	if was, ok := old.(*unstructured.Unstructured); ok && was != nil {
		had = was.GetFinalizers()
	}
	const at = "metadata.finalizers"
	var out []string
	for _, name := range slices.Sorted(slices.Values(u.GetFinalizers())) {
		if slices.Contains(had, name) {
			continue
		}
		for _, msg := range apimachineryvalidation.IsQualifiedName(name) {
			out = append(out, fmt.Sprintf("%s: %q: %s", at, name, msg))
		}
		if strings.Contains(name, "/") {
			continue
		}
		switch {
		case name == metav1.FinalizerOrphanDependents, name == metav1.FinalizerDeleteDependents, name == string(corev1.FinalizerKubernetes):
		case strings.Contains(name, "."):
			out = append(out, fmt.Sprintf("%s: %q: prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers", at, name))
		default:
			out = append(out, fmt.Sprintf("%s: %q: prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers", at, name))
		}
	}
	return out
}
