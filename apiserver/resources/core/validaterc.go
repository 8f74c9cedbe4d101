package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources/podspec"
)

func validateRC(_ context.Context, rc *corev1.ReplicationController) field.ErrorList {
	s := &rc.Spec
	errs := podspec.NonNegativeInt(s.MinReadySeconds, specPath.Child("minReadySeconds"))
	if len(s.Selector) == 0 {
		errs = append(errs, field.Required(specPath.Child("selector"), ""))
	}
	errs = append(errs, podspec.NonNegativeInt(ptr.Deref(s.Replicas, 0), specPath.Child("replicas"))...)
	at := specPath.Child("template")
	if s.Template == nil {
		return append(errs, field.Required(at, ""))
	}
	if len(s.Selector) > 0 && !labels.SelectorFromSet(s.Selector).Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(at.Child("metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(s.Template, at)...)
	return append(errs, podspec.RestartPolicyOf("ReplicationController", s.Template, at, corev1.RestartPolicyAlways)...)
}

func validateRCUpdate(ctx context.Context, rc, _ *corev1.ReplicationController) field.ErrorList {
	return validateRC(ctx, rc)
}

func rcWarnings(_ context.Context, rc, old *corev1.ReplicationController) []string {
	if rc.Spec.Template == nil {
		return nil
	}
	var before *corev1.PodTemplateSpec
	if old != nil {
		before = old.Spec.Template
	}
	return podspec.TemplateWarnings(rc.Spec.Template, before, specPath.Child("template"))
}
