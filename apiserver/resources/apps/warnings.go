package apps

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"skiff/apiserver/resources/podspec"
)

type podTemplate = corev1.PodTemplateSpec

// templateOf is the template of old, or nil when there is no old.
func templateOf[T any](old *T, of func(*T) *podTemplate) *podTemplate {
	if old == nil {
		return nil
	}
	return of(old)
}

func templateWarnings(_ context.Context, template, old *podTemplate) []string {
	return podspec.TemplateWarnings(template, old, field.NewPath("spec", "template"))
}
