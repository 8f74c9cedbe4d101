package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

func podTemplates() resources.Resource {
	r := namespaced("PodTemplate", "podtemplates")
	r.Versions = v1(func() runtime.Object { return &corev1.PodTemplateList{} },
		func(t *corev1.PodTemplate) { podspec.SetTemplateDefaults(&t.Template) })
	r.Columns = table.Columns(table.Name(), table.Text("Containers", "Names of each container in the template."),
		table.Text("Images", "Images referenced by each container in the template."),
		table.Text("Pod Labels", "The labels for the pod template."))
	return resources.Declare(resources.Spec[corev1.PodTemplate, *corev1.PodTemplate]{
		Resource: r,
		Strategy: resources.TypedStrategy[corev1.PodTemplate, *corev1.PodTemplate]{
			AllowUnconditionalUpdate: true,
			Validate: func(_ context.Context, t *corev1.PodTemplate) field.ErrorList {
				return podspec.ValidateTemplate(&t.Template, field.NewPath("template"))
			},
			ValidateUpdate: func(_ context.Context, t, _ *corev1.PodTemplate) field.ErrorList {
				return podspec.ValidateTemplate(&t.Template, field.NewPath("template"))
			},
			Generation: true,
		},
		Row: func(t *corev1.PodTemplate) []any {
			names, images := table.Containers(t.Template.Spec.Containers)
			return []any{t.Name, names, images, labels.FormatLabels(t.Template.Labels)}
		},
	})
}
