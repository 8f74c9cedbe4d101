package autoscaling

import (
	"context"
	"fmt"
	"slices"

	v2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

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
	if s.MinReplicas != nil && *s.MinReplicas < 0 {
		errs = append(errs, field.Invalid(specPath.Child("minReplicas"), *s.MinReplicas, "must be greater than or equal to 0"))
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(specPath.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	errs = append(errs, target(&s.ScaleTargetRef, specPath.Child("scaleTargetRef"), true)...)
	for i := range s.Metrics {
		errs = append(errs, metric(&s.Metrics[i], specPath.Child("metrics").Index(i))...)
	}
	if s.MinReplicas != nil && *s.MinReplicas == 0 && !slices.ContainsFunc(s.Metrics, outside) {
		errs = append(errs, field.Forbidden(specPath.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if b := s.Behavior; b != nil {
		errs = append(errs, rules(b.ScaleUp, specPath.Child("behavior", "scaleUp"))...)
		errs = append(errs, rules(b.ScaleDown, specPath.Child("behavior", "scaleDown"))...)
	}
	switch {
	case s.MaxReplicas == 0:
		errs = append(errs, field.Required(specPath.Child("maxReplicas"), ""))
	case s.MaxReplicas < 0:
		errs = append(errs, field.Invalid(specPath.Child("maxReplicas"), s.MaxReplicas, "must be greater than or equal to 1"))
	}
	return errs
}

// validateHPAUpdate forgives a version of the target that the stored object has:
// it may be older than the rule.
func validateHPAUpdate(ctx context.Context, h, old *hpa) field.ErrorList {
	errs := validateHPA(ctx, h)
	if h.Spec.ScaleTargetRef != old.Spec.ScaleTargetRef {
		return errs
	}
	at := specPath.Child("scaleTargetRef", "apiVersion").String()
	return slices.DeleteFunc(errs, func(e *field.Error) bool { return e.Field == at })
}

// outside tells of a metric that has values while there are no pods.
func outside(m v2.MetricSpec) bool {
	return m.Type == v2.ObjectMetricSourceType || m.Type == v2.ExternalMetricSourceType
}

func validateHPAStatusUpdate(_ context.Context, h, _ *hpa) field.ErrorList {
	at := field.NewPath("status")
	var errs field.ErrorList
	for i, c := range h.Status.Conditions {
		errs = append(errs, podspec.NonNegativeInt(ptr.Deref(c.ObservedGeneration, 0), at.Child("conditions").Index(i).Child("observedGeneration"))...)
	}
	errs = append(errs, podspec.NonNegativeInt(h.Status.CurrentReplicas, at.Child("currentReplicas"))...)
	return append(errs, podspec.NonNegativeInt(h.Status.DesiredReplicas, at.Child("desiredReplicas"))...)
}

// target is the rule for references. Only what is scaled must say its group, and
// a replication controller has none.
func target(ref *v2.CrossVersionObjectReference, at *field.Path, scaled bool) field.ErrorList {
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
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	switch {
	case err != nil:
		errs = append(errs, field.Invalid(at.Child("apiVersion"), ref.APIVersion, err.Error()))
	case scaled && gv.Group == "" && ref.Kind != "ReplicationController":
		errs = append(errs, field.Invalid(at.Child("apiVersion"), ref.APIVersion, "apiVersion must specify API group"))
	}
	return errs
}

// metric checks the first of the sources that are given; more than one is a fault
// of its own.
func metric(m *v2.MetricSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	sources := []struct {
		kind  v2.MetricSourceType
		field string
		set   bool
		check func(*v2.MetricSpec, *field.Path) field.ErrorList
	}{
		{v2.ObjectMetricSourceType, "object", m.Object != nil, object},
		{v2.ExternalMetricSourceType, "external", m.External != nil, external},
		{v2.PodsMetricSourceType, "pods", m.Pods != nil, pods},
		{v2.ResourceMetricSourceType, "resource", m.Resource != nil, resource},
		{v2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil, containerResource},
	}
	if m.Type == "" {
		errs = append(errs, field.Required(at.Child("type"), "must specify a metric source type"))
	}
	known, set := false, 0
	for _, s := range sources {
		known = known || s.kind == m.Type
		if s.set {
			set++
		}
	}
	if !known {
		errs = append(errs, field.NotSupported(at.Child("type"), m.Type, []v2.MetricSourceType{v2.ContainerResourceMetricSourceType,
			v2.ExternalMetricSourceType, v2.ObjectMetricSourceType, v2.PodsMetricSourceType, v2.ResourceMetricSourceType}))
	}
	for _, s := range sources {
		if s.set {
			errs = append(errs, s.check(m, at.Child(s.field))...)
			break
		}
	}
	for _, s := range sources {
		if s.kind == m.Type && !s.set {
			errs = append(errs, field.Required(at.Child(s.field), "must populate information for the given metric source"))
		}
	}
	for _, s := range sources {
		if set > 1 && s.set && s.kind != m.Type {
			errs = append(errs, field.Forbidden(at.Child(s.field), "must populate the given metric source only"))
		}
	}
	return errs
}

func object(m *v2.MetricSpec, at *field.Path) field.ErrorList {
	s := m.Object
	errs := target(&s.DescribedObject, at.Child("describedObject"), false)
	errs = append(errs, identifier(&s.Metric, at.Child("metric"))...)
	errs = append(errs, aim(&s.Target, at.Child("target"))...)
	if s.Target.Value == nil && s.Target.AverageValue == nil {
		errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value or averageValue"))
	}
	return errs
}

func external(m *v2.MetricSpec, at *field.Path) field.ErrorList {
	s := m.External
	errs := identifier(&s.Metric, at.Child("metric"))
	errs = append(errs, aim(&s.Target, at.Child("target"))...)
	switch {
	case s.Target.Value == nil && s.Target.AverageValue == nil:
		errs = append(errs, field.Required(at.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
	case s.Target.Value != nil && s.Target.AverageValue != nil:
		errs = append(errs, field.Forbidden(at.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
	}
	return errs
}

func pods(m *v2.MetricSpec, at *field.Path) field.ErrorList {
	s := m.Pods
	errs := identifier(&s.Metric, at.Child("metric"))
	errs = append(errs, aim(&s.Target, at.Child("target"))...)
	if s.Target.AverageValue == nil {
		errs = append(errs, field.Required(at.Child("target", "averageValue"), "must specify a positive target averageValue"))
	}
	return errs
}

func resource(m *v2.MetricSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m.Resource.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "must specify a resource name"))
	}
	return append(errs, usage(&m.Resource.Target, at)...)
}

func containerResource(m *v2.MetricSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	s := m.ContainerResource
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "must specify a resource name"))
	} else {
		errs = append(errs, podspec.ContainerResourceName(s.Name, at.Child("name"))...)
	}
	if s.Container == "" {
		errs = append(errs, field.Required(at.Child("container"), "must specify a container"))
	} else {
		errs = append(errs, podspec.DNSLabel(s.Container, at.Child("container"))...)
	}
	return append(errs, usage(&s.Target, at)...)
}

func usage(t *v2.MetricTarget, at *field.Path) field.ErrorList {
	errs := aim(t, at.Child("target"))
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
	default:
		if t.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), "must specify a metric target type"))
		}
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

// identifier leaves the selector alone: it is for the server of the metrics.
func identifier(m *v2.MetricIdentifier, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "must specify a metric name"))
	} else {
		for _, msg := range path.IsValidPathSegmentName(m.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), m.Name, msg))
		}
	}
	return errs
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
