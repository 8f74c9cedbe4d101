package autoscaling

import (
	"context"
	"fmt"

	v2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/validation/path"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

const (
	maxPeriodSeconds        = 1800
	maxStabilizationSeconds = 3600
)

var specPath = field.NewPath("spec")

func validateHPA(_ context.Context, h *hpa) field.ErrorList {
	var errs field.ErrorList
	s := &h.Spec
	if s.MinReplicas != nil && *s.MinReplicas < 1 {
		errs = append(errs, field.Invalid(specPath.Child("minReplicas"), *s.MinReplicas, "must be greater than or equal to 1"))
	}
	if s.MaxReplicas < 1 {
		errs = append(errs, field.Invalid(specPath.Child("maxReplicas"), s.MaxReplicas, "must be greater than 0"))
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(specPath.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	errs = append(errs, target(&s.ScaleTargetRef, specPath.Child("scaleTargetRef"))...)
	for i := range s.Metrics {
		errs = append(errs, metric(&s.Metrics[i], specPath.Child("metrics").Index(i))...)
	}
	if b := s.Behavior; b != nil {
		errs = append(errs, rules(b.ScaleUp, specPath.Child("behavior", "scaleUp"))...)
		errs = append(errs, rules(b.ScaleDown, specPath.Child("behavior", "scaleDown"))...)
	}
	return errs
}

func validateHPAStatusUpdate(_ context.Context, h, _ *hpa) field.ErrorList {
	at := field.NewPath("status")
	errs := podspec.NonNegativeInt(h.Status.CurrentReplicas, at.Child("currentReplicas"))
	return append(errs, podspec.NonNegativeInt(h.Status.DesiredReplicas, at.Child("desiredReplicas"))...)
}

func target(ref *v2.CrossVersionObjectReference, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range [][2]string{{"kind", ref.Kind}, {"name", ref.Name}} {
		if f[1] == "" {
			errs = append(errs, field.Required(at.Child(f[0]), ""))
			continue
		}
		for _, msg := range path.IsValidPathSegmentName(f[1]) {
			errs = append(errs, field.Invalid(at.Child(f[0]), f[1], msg))
		}
	}
	return errs
}

func metric(m *v2.MetricSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	sources := []struct {
		kind  v2.MetricSourceType
		field string
		set   bool
	}{
		{v2.ObjectMetricSourceType, "object", m.Object != nil},
		{v2.ExternalMetricSourceType, "external", m.External != nil},
		{v2.PodsMetricSourceType, "pods", m.Pods != nil},
		{v2.ResourceMetricSourceType, "resource", m.Resource != nil},
		{v2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil},
	}
	if m.Type == "" {
		errs = append(errs, field.Required(at.Child("type"), "must specify a metric source type"))
	}
	known, seen := false, ""
	for _, s := range sources {
		if s.kind == m.Type {
			known = true
			if !s.set {
				errs = append(errs, field.Required(at.Child(s.field), "must populate information for the given metric source"))
			}
		}
		if s.set {
			if seen != "" {
				errs = append(errs, field.Forbidden(at.Child(s.field), "must populate the given metric source only"))
			}
			seen = s.field
			if s.kind != m.Type && m.Type != "" {
				errs = append(errs, field.Forbidden(at.Child(s.field), "must populate the given metric source only"))
			}
		}
	}
	if m.Type != "" && !known {
		errs = append(errs, field.NotSupported(at.Child("type"), m.Type, []v2.MetricSourceType{v2.ContainerResourceMetricSourceType,
			v2.ExternalMetricSourceType, v2.ObjectMetricSourceType, v2.PodsMetricSourceType, v2.ResourceMetricSourceType}))
	}
	if s := m.Object; s != nil {
		at := at.Child("object")
		errs = append(errs, target(&s.DescribedObject, at.Child("describedObject"))...)
		errs = append(errs, identifier(&s.Metric, at.Child("metric"))...)
		errs = append(errs, aim(&s.Target, at.Child("target"))...)
		if s.Target.Value == nil && s.Target.AverageValue == nil {
			errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value or averageValue"))
		}
	}
	if s := m.External; s != nil {
		at := at.Child("external")
		errs = append(errs, identifier(&s.Metric, at.Child("metric"))...)
		errs = append(errs, aim(&s.Target, at.Child("target"))...)
		switch {
		case s.Target.Value == nil && s.Target.AverageValue == nil:
			errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
		case s.Target.Value != nil && s.Target.AverageValue != nil:
			errs = append(errs, field.Forbidden(at.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
		}
	}
	if s := m.Pods; s != nil {
		at := at.Child("pods")
		errs = append(errs, identifier(&s.Metric, at.Child("metric"))...)
		errs = append(errs, aim(&s.Target, at.Child("target"))...)
		if s.Target.AverageValue == nil || s.Target.AverageValue.Sign() != 1 {
			errs = append(errs, field.Required(at.Child("target", "averageValue"), "must specify a positive target averageValue"))
		}
	}
	if s := m.Resource; s != nil {
		errs = append(errs, usage(string(s.Name), &s.Target, at.Child("resource"))...)
	}
	if s := m.ContainerResource; s != nil {
		at := at.Child("containerResource")
		if s.Container == "" {
			errs = append(errs, field.Required(at.Child("container"), "must specify a container"))
		}
		errs = append(errs, usage(string(s.Name), &s.Target, at)...)
	}
	return errs
}

func usage(name string, t *v2.MetricTarget, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(at.Child("name"), "must specify a resource name"))
	}
	errs = append(errs, aim(t, at.Child("target"))...)
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(at.Child("target", "averageUtilization"), "must set either a target raw value or a target utilization"))
	case t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(at.Child("target", "averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func aim(t *v2.MetricTarget, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch t.Type {
	case v2.UtilizationMetricType, v2.ValueMetricType, v2.AverageValueMetricType:
	case "":
		errs = append(errs, field.Required(at.Child("type"), "must specify a metric target type"))
	default:
		errs = append(errs, field.Invalid(at.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		errs = append(errs, field.Invalid(at.Child("averageValue"), t.AverageValue, "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		errs = append(errs, field.Invalid(at.Child("averageUtilization"), *t.AverageUtilization, "must be greater than 0"))
	}
	return errs
}

func identifier(m *v2.MetricIdentifier, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "must specify a metric name"))
	} else {
		for _, msg := range path.IsValidPathSegmentName(m.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), m.Name, msg))
		}
	}
	return append(errs, unversioned.ValidateLabelSelector(m.Selector, unversioned.LabelSelectorValidationOptions{}, at.Child("selector"))...)
}

func rules(r *v2.HPAScalingRules, at *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if w := r.StabilizationWindowSeconds; w != nil {
		if *w < 0 {
			errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), *w, "must be greater than or equal to zero"))
		}
		if *w > maxStabilizationSeconds {
			errs = append(errs, field.Invalid(at.Child("stabilizationWindowSeconds"), *w, fmt.Sprintf("must be less than or equal to %v", maxStabilizationSeconds)))
		}
	}
	if p := r.SelectPolicy; p != nil && *p != v2.MaxChangePolicySelect && *p != v2.MinChangePolicySelect && *p != v2.DisabledPolicySelect {
		errs = append(errs, field.NotSupported(at.Child("selectPolicy"), *p, []v2.ScalingPolicySelect{v2.DisabledPolicySelect, v2.MaxChangePolicySelect, v2.MinChangePolicySelect}))
	}
	list := at.Child("policies")
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(list, "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		at := list.Index(i)
		if p.Type != v2.PodsScalingPolicy && p.Type != v2.PercentScalingPolicy {
			errs = append(errs, field.NotSupported(at.Child("type"), p.Type, []v2.HPAScalingPolicyType{v2.PercentScalingPolicy, v2.PodsScalingPolicy}))
		}
		if p.Value <= 0 {
			errs = append(errs, field.Invalid(at.Child("value"), p.Value, "must be greater than zero"))
		}
		if p.PeriodSeconds <= 0 {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
		}
		if p.PeriodSeconds > maxPeriodSeconds {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", maxPeriodSeconds)))
		}
	}
	if t := r.Tolerance; t != nil && t.Sign() < 0 {
		errs = append(errs, field.Invalid(at.Child("tolerance"), t.String(), "must be greater than or equal to 0"))
	}
	return errs
}
