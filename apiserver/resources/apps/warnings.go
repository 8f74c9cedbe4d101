package apps

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

type podTemplate = corev1.PodTemplateSpec

// templateWarnings are those of an object that is created, or whose specification
// is another than before.
func templateWarnings[S any](template *podTemplate, spec, before *S) []string {
	if before != nil && equality.Semantic.DeepEqual(spec, before) {
		return nil
	}
	return podspec.TemplateWarnings(template, field.NewPath("spec", "template"))
}
