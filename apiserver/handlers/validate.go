package handlers

import (
	"context"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	corev1 "k8s.io/api/core/v1"

	"skiff/apiserver/resources"
)

// validateCreate returns every error of a new object.
func validateCreate(ctx context.Context, t *Target, s *resources.Strategy, obj runtime.Object, m metav1.Object) error {
	at := field.NewPath("metadata")
	var errs field.ErrorList
	if s.Metadata.Last {
		// The kind's own rules come first here, and alone.
		if s.Validate != nil {
			errs = s.Validate(ctx, obj)
		}
		if len(errs) == 0 {
			errs = validation.ValidateObjectMetaAccessor(m, t.Resource.Namespaced, pathSegment, at)
		}
		return t.invalid(m.GetName(), errs)
	}
	errs = validation.ValidateObjectMetaAccessor(m, t.Resource.Namespaced, nameFn(&t.Resource.Strategy), at)
	if !s.Metadata.AnyFinalizer {
		errs = append(errs, unqualifiedFinalizers(m.GetFinalizers(), nil, at)...)
	}
	if s.Validate != nil {
		errs = append(errs, s.Validate(ctx, obj)...)
	}
	return t.invalid(m.GetName(), errs)
}

// validateUpdate returns every error of a changed object.
func validateUpdate(ctx context.Context, t *Target, s *resources.Strategy, obj, old runtime.Object, m, oldMeta metav1.Object) error {
	at := field.NewPath("metadata")
	errs := validation.ValidateObjectMetaAccessor(m, t.Resource.Namespaced, pathSegment, at)
	errs = append(errs, validation.ValidateObjectMetaAccessorUpdate(m, oldMeta, at)...)
	if !s.Metadata.AnyFinalizer {
		errs = append(errs, unqualifiedFinalizers(m.GetFinalizers(), oldMeta.GetFinalizers(), at)...)
	}
	if s.Metadata.NamesOnUpdate {
		errs = append(errs, validation.ValidateObjectMetaAccessor(m, t.Resource.Namespaced, nameFn(&t.Resource.Strategy), at)...)
	}
	if s.ValidateUpdate != nil {
		errs = append(errs, s.ValidateUpdate(ctx, obj, old)...)
	}
	return t.invalid(m.GetName(), errs)
}

func nameFn(s *resources.Strategy) validation.ValidateNameFunc {
	if s.NameValidation != nil {
		return s.NameValidation
	}
	return validation.NameIsDNSSubdomain
}

// pathSegment is the rule for names of every kind.
func pathSegment(name string, prefix bool) []string {
	return path.ValidatePathSegmentName(name, prefix)
}

// unqualifiedFinalizers are those that belong to nobody: neither Kubernetes' own
// nor of a domain. Those that the stored object has may stay.
func unqualifiedFinalizers(finalizers, had []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, f := range finalizers {
		switch f {
		case string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents:
			continue
		}
		if !strings.Contains(f, "/") && !slices.Contains(had, f) {
			errs = append(errs, field.Invalid(at.Child("finalizers").Index(i), f, "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

// once drops the errors that repeat an earlier one.
func once(errs field.ErrorList) field.ErrorList {
	var out field.ErrorList
	for _, e := range errs {
		if !slices.ContainsFunc(out, func(o *field.Error) bool {
			return o.Type == e.Type && o.Field == e.Field && o.Detail == e.Detail && equality.Semantic.DeepEqual(o.BadValue, e.BadValue)
		}) {
			out = append(out, e)
		}
	}
	return out
}
