package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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

func validateRCStatusUpdate(_ context.Context, rc, _ *corev1.ReplicationController) field.ErrorList {
	s := &rc.Status
	var errs field.ErrorList
	for _, c := range []struct {
		name string
		n    int64
	}{{"replicas", int64(s.Replicas)}, {"fullyLabeledReplicas", int64(s.FullyLabeledReplicas)}, {"readyReplicas", int64(s.ReadyReplicas)},
		{"availableReplicas", int64(s.AvailableReplicas)}, {"observedGeneration", s.ObservedGeneration}} {
		errs = append(errs, podspec.NonNegativeInt(c.n, statusPath.Child(c.name))...)
	}
	for _, c := range []struct {
		name string
		n    int32
	}{{"fullyLabeledReplicas", s.FullyLabeledReplicas}, {"readyReplicas", s.ReadyReplicas}, {"availableReplicas", s.AvailableReplicas}} {
		if c.n > s.Replicas {
			errs = append(errs, field.Invalid(statusPath.Child(c.name), c.n, "cannot be greater than status.replicas"))
		}
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(statusPath.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}

func rcWarnings(_ context.Context, rc, old *corev1.ReplicationController) []string {
	if rc.Spec.Template == nil {
		return nil
	}
	if old != nil && equality.Semantic.DeepEqual(&rc.Spec, &old.Spec) {
		return nil
	}
	warnings := podspec.TemplateWarnings(rc.Spec.Template, specPath.Child("template"))
	if old == nil {
		warnings = append(podspec.NameWarnings(rc.Name), warnings...)
	}
	return warnings
}
