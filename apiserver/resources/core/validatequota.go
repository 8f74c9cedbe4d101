package core

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
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
	errs := podspec.ResourceName(name, at)
	if !strings.Contains(string(name), "/") && !quotaNames[name] &&
		!strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) && !strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix) {
		errs = append(errs, field.Invalid(at, string(name), "must be a standard resource for quota"))
	}
	return errs
}

func quotaValue(name corev1.ResourceName, q resource.Quantity, at *field.Path) field.ErrorList {
	errs := podspec.NonNegative(q, at)
	if (wholeNumbers[name] || strings.Contains(string(name), "/")) && q.MilliValue()%1000 != 0 {
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
		if !scopeBounds(s, q.Spec.Hard) {
			errs = append(errs, field.Invalid(at, q.Spec.Scopes, "unsupported scope applied to resource"))
		}
		has[s] = true
	}
	if conflicting(has) {
		errs = append(errs, field.Invalid(at, q.Spec.Scopes, "conflicting scopes"))
	}
	if q.Spec.ScopeSelector == nil {
		return errs
	}
	// The paths name no expression, as clients know them.
	at = specPath.Child("scopeSelector", "matchExpressions")
	has = map[corev1.ResourceQuotaScope]bool{}
	for _, e := range q.Spec.ScopeSelector.MatchExpressions {
		if !known(e.ScopeName) {
			errs = append(errs, field.Invalid(at.Child("scopeName"), e.ScopeName, "unsupported scope"))
		}
		if !scopeBounds(e.ScopeName, q.Spec.Hard) {
			errs = append(errs, field.Invalid(at, q.Spec.ScopeSelector, "unsupported scope applied to resource"))
		}
		if e.ScopeName != corev1.ResourceQuotaScopePriorityClass && e.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass && known(e.ScopeName) && e.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(at.Child("operator"), e.Operator, "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
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
		has[e.ScopeName] = true
	}
	if conflicting(has) {
		errs = append(errs, field.Invalid(at, nil, "conflicting scopes"))
	}
	return errs
}

func conflicting(has map[corev1.ResourceQuotaScope]bool) bool {
	return has[corev1.ResourceQuotaScopeBestEffort] && has[corev1.ResourceQuotaScopeNotBestEffort] ||
		has[corev1.ResourceQuotaScopeTerminating] && has[corev1.ResourceQuotaScopeNotTerminating]
}

// scopeBounds tells whether all of the resources are of what a scope chooses from: pods,
// or claims. Those with a domain are for whoever counts them to know.
func scopeBounds(scope corev1.ResourceQuotaScope, hard corev1.ResourceList) bool {
	for name := range hard {
		if strings.Contains(string(name), "/") {
			continue
		}
		ofPods := name == corev1.ResourcePods
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory:
			ofPods = scope != corev1.ResourceQuotaScopeBestEffort
		}
		switch scope {
		case corev1.ResourceQuotaScopeVolumeAttributesClass:
			if name != corev1.ResourcePersistentVolumeClaims && name != corev1.ResourceRequestsStorage {
				return false
			}
		case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
			corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
			if !ofPods {
				return false
			}
		}
	}
	return true
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
