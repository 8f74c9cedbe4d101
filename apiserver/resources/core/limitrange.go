package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

func limitRanges() resources.Resource {
	r := namespaced("LimitRange", "limitranges", "limits")
	r.Versions = v1(func() runtime.Object { return &corev1.LimitRangeList{} }, limitRangeDefaults)
	r.Columns = table.Columns(table.Name(), table.CreatedAt())
	return resources.Declare(resources.Spec[corev1.LimitRange, *corev1.LimitRange]{
		Resource: r,
		Strategy: resources.TypedStrategy[corev1.LimitRange, *corev1.LimitRange]{
			AllowCreateOnUpdate:      true,
			AllowUnconditionalUpdate: true,
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			// A range may go without a name: one is made up.
			PrepareForCreate: func(_ context.Context, l *corev1.LimitRange) {
				if l.Name == "" {
					l.Name = string(uuid.NewUUID())
				}
			},
			Validate: validateLimitRange, ValidateUpdate: func(ctx context.Context, l, _ *corev1.LimitRange) field.ErrorList { return validateLimitRange(ctx, l) },
		},
		Row: func(l *corev1.LimitRange) []any { return []any{l.Name, table.Created(l.CreationTimestamp)} },
	})
}

// limitRangeDefaults makes, for containers, a missing default limit the maximum
// and a missing default request the default limit or else the minimum.
func limitRangeDefaults(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			podspec.RoundResources(list)
		}
		if item.Type != corev1.LimitTypeContainer {
			continue
		}
		fill := func(into *corev1.ResourceList, from corev1.ResourceList) {
			if *into == nil {
				*into = corev1.ResourceList{}
			}
			for name, q := range from {
				if _, ok := (*into)[name]; !ok {
					(*into)[name] = q.DeepCopy()
				}
			}
		}
		fill(&item.Default, item.Max)
		fill(&item.DefaultRequest, item.Default)
		fill(&item.DefaultRequest, item.Min)
	}
}
