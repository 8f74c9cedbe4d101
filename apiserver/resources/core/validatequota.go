package core

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

// quotaNames are the resources without a domain that a quota may bound.
var quotaNames = map[corev1.ResourceName]bool{
	corev1.ResourceCPU: true, corev1.ResourceMemory: true, corev1.ResourceEphemeralStorage: true,
	corev1.ResourceRequestsCPU: true, corev1.ResourceRequestsMemory: true, corev1.ResourceRequestsStorage: true, corev1.ResourceRequestsEphemeralStorage: true,
	corev1.ResourceLimitsCPU: true, corev1.ResourceLimitsMemory: true, corev1.ResourceLimitsEphemeralStorage: true,
	corev1.ResourcePods: true, corev1.ResourceQuotas: true, corev1.ResourceServices: true, corev1.ResourceReplicationControllers: true,
	corev1.ResourceSecrets: true, corev1.ResourcePersistentVolumeClaims: true, corev1.ResourceConfigMaps: true,
	corev1.ResourceServicesNodePorts: true, corev1.ResourceServicesLoadBalancers: true,
}

// wholeNumbers are counted, and have no fractions.
var wholeNumbers = map[corev1.ResourceName]bool{
	corev1.ResourcePods: true, corev1.ResourceQuotas: true, corev1.ResourceServices: true, corev1.ResourceReplicationControllers: true,
	corev1.ResourceSecrets: true, corev1.ResourceConfigMaps: true, corev1.ResourcePersistentVolumeClaims: true,
	corev1.ResourceServicesNodePorts: true, corev1.ResourceServicesLoadBalancers: true,
}

func quotaResource(name corev1.ResourceName, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(name)) {
		errs = append(errs, field.Invalid(at, string(name), msg))
	}
	if len(errs) == 0 && !strings.Contains(string(name), "/") && !quotaNames[name] &&
		!strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) && !strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix) {
		errs = append(errs, field.Invalid(at, string(name), "must be a standard resource for quota"))
	}
	return errs
}

func quotaValue(name corev1.ResourceName, q resource.Quantity, at *field.Path) field.ErrorList {
	errs := podspec.NonNegative(q, at)
	if wholeNumbers[name] && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(at, q.String(), "must be an integer"))
	}
	return errs
}

func quotaList(list corev1.ResourceList, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, q := range list {
		errs = append(errs, quotaResource(name, at.Key(string(name)))...)
		errs = append(errs, quotaValue(name, q, at.Key(string(name)))...)
	}
	return errs
}

func validateQuota(_ context.Context, q *corev1.ResourceQuota) field.ErrorList {
	errs := quotaList(q.Spec.Hard, specPath.Child("hard"))
	has := map[corev1.ResourceQuotaScope]bool{}
	known := func(s corev1.ResourceQuotaScope) bool {
		switch s {
		case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort,
			corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity, corev1.ResourceQuotaScopeVolumeAttributesClass:
			return true
		}
		return false
	}
	at := specPath.Child("scopes")
	for _, s := range q.Spec.Scopes {
		if !known(s) {
			errs = append(errs, field.Invalid(at, q.Spec.Scopes, "unsupported scope"))
		}
		has[s] = true
	}
	if has[corev1.ResourceQuotaScopeBestEffort] && has[corev1.ResourceQuotaScopeNotBestEffort] ||
		has[corev1.ResourceQuotaScopeTerminating] && has[corev1.ResourceQuotaScopeNotTerminating] {
		errs = append(errs, field.Invalid(at, q.Spec.Scopes, "conflicting scopes"))
	}
	if sel := q.Spec.ScopeSelector; sel != nil {
		at := specPath.Child("scopeSelector", "matchExpressions")
		for i, e := range sel.MatchExpressions {
			at := at.Index(i)
			if !known(e.ScopeName) {
				errs = append(errs, field.Invalid(at.Child("scopeName"), e.ScopeName, "unsupported scope"))
			}
			switch e.Operator {
			case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
				if len(e.Values) == 0 {
					errs = append(errs, field.Required(at.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
				}
			case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
				if len(e.Values) > 0 {
					errs = append(errs, field.Invalid(at.Child("values"), e.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
				}
			default:
				errs = append(errs, field.Invalid(at.Child("operator"), e.Operator, "not a valid selector operator"))
			}
		}
	}
	return errs
}

func validateQuotaUpdate(ctx context.Context, q, old *corev1.ResourceQuota) field.ErrorList {
	errs := validateQuota(ctx, q)
	if !equality.Semantic.DeepEqual(scopeSet(q), scopeSet(old)) {
		errs = append(errs, field.Invalid(specPath.Child("scopes"), q.Spec.Scopes, "field is immutable"))
	}
	return errs
}

func scopeSet(q *corev1.ResourceQuota) map[corev1.ResourceQuotaScope]bool {
	set := map[corev1.ResourceQuotaScope]bool{}
	for _, s := range q.Spec.Scopes {
		set[s] = true
	}
	return set
}

func validateQuotaStatusUpdate(_ context.Context, q, _ *corev1.ResourceQuota) field.ErrorList {
	return append(quotaList(q.Status.Hard, statusPath.Child("hard")), quotaList(q.Status.Used, statusPath.Child("used"))...)
}

func validateLimitRange(_ context.Context, l *corev1.LimitRange) field.ErrorList {
	var errs field.ErrorList
	types := map[corev1.LimitType]bool{}
	for i := range l.Spec.Limits {
		item, at := &l.Spec.Limits[i], specPath.Child("limits").Index(i)
		for _, msg := range validation.IsQualifiedName(string(item.Type)) {
			errs = append(errs, field.Invalid(at.Child("type"), item.Type, msg))
		}
		if types[item.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), item.Type))
		}
		types[item.Type] = true
		errs = append(errs, limitItem(item, at)...)
	}
	return errs
}

func limitItem(item *corev1.LimitRangeItem, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[corev1.ResourceName]bool{}
	for part, list := range map[string]corev1.ResourceList{"max": item.Max, "min": item.Min, "default": item.Default,
		"defaultRequest": item.DefaultRequest, "maxLimitRequestRatio": item.MaxLimitRequestRatio} {
		for name := range list {
			names[name] = true
			for _, msg := range validation.IsQualifiedName(string(name)) {
				errs = append(errs, field.Invalid(at.Child(part).Key(string(name)), string(name), msg))
			}
		}
	}
	if item.Type == corev1.LimitTypePod {
		if len(item.Default) > 0 {
			errs = append(errs, field.Forbidden(at.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(item.DefaultRequest) > 0 {
			errs = append(errs, field.Forbidden(at.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, low := item.Min[corev1.ResourceStorage]
		_, high := item.Max[corev1.ResourceStorage]
		if !low && !high {
			errs = append(errs, field.Required(at, "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	for name := range names {
		low, hasLow := item.Min[name]
		high, hasHigh := item.Max[name]
		def, hasDef := item.Default[name]
		req, hasReq := item.DefaultRequest[name]
		ratio, hasRatio := item.MaxLimitRequestRatio[name]
		key := string(name)
		above := func(child string, a resource.Quantity, an string, b resource.Quantity, bn string) {
			if a.Cmp(b) > 0 {
				errs = append(errs, field.Invalid(at.Child(child).Key(key), a.String(), fmt.Sprintf("%s value %s is greater than %s value %s", an, a.String(), bn, b.String())))
			}
		}
		if hasLow && hasHigh {
			above("min", low, "min", high, "max")
		}
		if hasReq && hasLow {
			if low.Cmp(req) > 0 {
				errs = append(errs, field.Invalid(at.Child("defaultRequest").Key(key), req.String(), fmt.Sprintf("min value %s is greater than default request value %s", low.String(), req.String())))
			}
		}
		if hasReq && hasHigh {
			above("defaultRequest", req, "default request", high, "max")
		}
		if hasReq && hasDef {
			above("defaultRequest", req, "default request", def, "default limit")
		}
		if hasDef && hasLow && low.Cmp(def) > 0 {
			errs = append(errs, field.Invalid(at.Child("default").Key(key), low.String(), fmt.Sprintf("min value %s is greater than default value %s", low.String(), def.String())))
		}
		if hasDef && hasHigh {
			if def.Cmp(high) > 0 {
				errs = append(errs, field.Invalid(at.Child("default").Key(key), high.String(), fmt.Sprintf("default value %s is greater than max value %s", def.String(), high.String())))
			}
		}
		if hasRatio && ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
			errs = append(errs, field.Invalid(at.Child("maxLimitRequestRatio").Key(key), ratio.String(), fmt.Sprintf("ratio %s is less than 1", ratio.String())))
		}
	}
	return errs
}
