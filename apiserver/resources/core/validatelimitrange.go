package core

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

func validateLimitRange(_ context.Context, l *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	types := map[corev1.LimitType]bool{}
	for i := range l.Spec.Limits {
		item, at := &l.Spec.Limits[i], specPath.Child("limits").Index(i)
		errs = append(errs, limitType(item.Type, at.Child("type"))...)
		if types[item.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), item.Type))
		}
		types[item.Type] = true
		errs = append(errs, limitItem(item, at)...)
	}
	return errs
}

func limitType(t corev1.LimitType, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(t)) {
		errs = append(errs, field.Invalid(at, t, msg))
	}
	if len(errs) > 0 || strings.Contains(string(t), "/") {
		return errs
	}
	switch t {
	case corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim:
		return nil
	}
	return field.ErrorList{field.Invalid(at, t, "must be a standard limit type or fully qualified")}
}

func limitItem(item *corev1.LimitRangeItem, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[corev1.ResourceName]bool{}
	namesOf := func(part string, list corev1.ResourceList) {
		for name := range list {
			names[name] = true
			at := at.Child(part).Key(string(name))
			switch item.Type {
			case corev1.LimitTypePod, corev1.LimitTypeContainer:
				errs = append(errs, podspec.ContainerResourceName(name, at)...)
			default:
				errs = append(errs, podspec.ResourceName(name, at)...)
			}
		}
	}
	namesOf("max", item.Max)
	namesOf("min", item.Min)
	if item.Type == corev1.LimitTypePod {
		if len(item.Default) > 0 {
			errs = append(errs, field.Forbidden(at.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(item.DefaultRequest) > 0 {
			errs = append(errs, field.Forbidden(at.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
	} else {
		namesOf("default", item.Default)
		namesOf("defaultRequest", item.DefaultRequest)
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, low := item.Min[corev1.ResourceStorage]
		_, high := item.Max[corev1.ResourceStorage]
		if !low && !high {
			errs = append(errs, field.Required(at, "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	namesOf("maxLimitRequestRatio", item.MaxLimitRequestRatio)
	for name := range names {
		errs = append(errs, limitsOfResource(item, name, at)...)
	}
	return errs
}

// limitsOfResource holds the bounds of one resource against each other.
func limitsOfResource(item *corev1.LimitRangeItem, name corev1.ResourceName, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	low, hasLow := item.Min[name]
	high, hasHigh := item.Max[name]
	def, hasDef := item.Default[name]
	req, hasReq := item.DefaultRequest[name]
	ratio, hasRatio := item.MaxLimitRequestRatio[name]
	invalid := func(child string, value resource.Quantity, text string, a, b resource.Quantity) {
		errs = append(errs, field.Invalid(at.Child(child).Key(string(name)), value.String(), fmt.Sprintf(text, a.String(), b.String())))
	}
	if hasLow && hasHigh && low.Cmp(high) > 0 {
		invalid("min", low, "min value %s is greater than max value %s", low, high)
	}
	if hasReq && hasLow && low.Cmp(req) > 0 {
		invalid("defaultRequest", req, "min value %s is greater than default request value %s", low, req)
	}
	if hasReq && hasHigh && req.Cmp(high) > 0 {
		invalid("defaultRequest", req, "default request value %s is greater than max value %s", req, high)
	}
	if hasReq && hasDef && req.Cmp(def) > 0 {
		invalid("defaultRequest", req, "default request value %s is greater than default limit value %s", req, def)
	}
	if hasDef && hasLow && low.Cmp(def) > 0 {
		invalid("default", low, "min value %s is greater than default value %s", low, def)
	}
	if hasDef && hasHigh && def.Cmp(high) > 0 {
		invalid("default", high, "default value %s is greater than max value %s", def, high)
	}
	if !hasRatio {
		return errs
	}
	key := at.Child("maxLimitRequestRatio").Key(string(name))
	if ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		errs = append(errs, field.Invalid(key, ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
	}
	if hasLow && hasHigh {
		if most := high.AsApproximateFloat64() / low.AsApproximateFloat64(); ratio.AsApproximateFloat64() > most {
			errs = append(errs, field.Invalid(key, ratio.String(), fmt.Sprintf("ratio %s is greater than max/min = %f", ratio.String(), most)))
		}
	}
	return errs
}
