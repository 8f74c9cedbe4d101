// Package policy declares the kinds of policy.
package policy

import (
	"context"

	policyv1 "k8s.io/api/policy/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{podDisruptionBudgets()}
}

func podDisruptionBudgets() resources.Resource {
	r := resources.Kind(policyv1.GroupName, "PodDisruptionBudget", "poddisruptionbudgets", true, "pdb")
	r.Versions = []resources.Version{resources.HubVersion[policyv1.PodDisruptionBudget]("v1", resources.Empty[policyv1.PodDisruptionBudgetList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("Min Available", "How many pods must stay."), table.Text("Max Unavailable", "How many pods may be away."), table.Int("Allowed Disruptions", "How many pods may be evicted now."), table.Age())
	main, view := resources.SpecStatus(resources.TypedStrategy[policyv1.PodDisruptionBudget, *policyv1.PodDisruptionBudget]{Metadata: resources.MetadataRules{AnyFinalizer: true, Last: true}, Generation: true, Validate: validateBudget, ValidateUpdate: func(ctx context.Context, o, _ *policyv1.PodDisruptionBudget) field.ErrorList {
		return validateBudget(ctx, o)
	}},
		func(o *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudgetSpec { return &o.Spec }, func(o *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudgetStatus { return &o.Status })
	view.ValidateUpdate = validateBudgetStatus
	return resources.Declare(resources.Spec[policyv1.PodDisruptionBudget, *policyv1.PodDisruptionBudget]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *policyv1.PodDisruptionBudget) []any {
			low, high := "N/A", "N/A"
			if v := o.Spec.MinAvailable; v != nil {
				low = v.String()
			}
			if v := o.Spec.MaxUnavailable; v != nil {
				high = v.String()
			}
			return []any{o.Name, low, high, int64(o.Status.DisruptionsAllowed), table.Since(o.CreationTimestamp)}
		},
	})
}

func validateBudget(_ context.Context, o *policyv1.PodDisruptionBudget) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	if o.Spec.MinAvailable != nil && o.Spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(at, o.Spec, "minAvailable and maxUnavailable cannot be both set"))
	}
	errs = append(errs, podspec.IntOrPercent(o.Spec.MinAvailable, at.Child("minAvailable"))...)
	errs = append(errs, podspec.NotMoreThan100(o.Spec.MinAvailable, at.Child("minAvailable"))...)
	errs = append(errs, podspec.IntOrPercent(o.Spec.MaxUnavailable, at.Child("maxUnavailable"))...)
	errs = append(errs, podspec.NotMoreThan100(o.Spec.MaxUnavailable, at.Child("maxUnavailable"))...)
	errs = append(errs, unversioned.ValidateLabelSelector(o.Spec.Selector, unversioned.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	if p := o.Spec.UnhealthyPodEvictionPolicy; p != nil && *p != policyv1.IfHealthyBudget && *p != policyv1.AlwaysAllow {
		errs = append(errs, field.NotSupported(at.Child("unhealthyPodEvictionPolicy"), *p, []policyv1.UnhealthyPodEvictionPolicyType{policyv1.AlwaysAllow, policyv1.IfHealthyBudget}))
	}
	return errs
}

func validateBudgetStatus(_ context.Context, o, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	s, at := &o.Status, field.NewPath("status")
	errs := resources.ValidConditions(s.Conditions)
	errs = append(errs, podspec.NonNegativeInt(s.DisruptionsAllowed, at.Child("disruptionsAllowed"))...)
	errs = append(errs, podspec.NonNegativeInt(s.CurrentHealthy, at.Child("currentHealthy"))...)
	errs = append(errs, podspec.NonNegativeInt(s.DesiredHealthy, at.Child("desiredHealthy"))...)
	return append(errs, podspec.NonNegativeInt(s.ExpectedPods, at.Child("expectedPods"))...)
}
