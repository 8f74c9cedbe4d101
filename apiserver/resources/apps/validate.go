package apps

import (
	"context"
	"encoding/json"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources/podspec"
)

var spec = field.NewPath("spec")

func sameSelector(a, b *metav1.LabelSelector) field.ErrorList {
	return apivalidation.ValidateImmutableField(a, b, spec.Child("selector"))
}

func validateDeployment(_ context.Context, d *appsv1.Deployment) field.ErrorList {
	s := &d.Spec
	errs := podspec.NonNegativeInt(*s.Replicas, spec.Child("replicas"))
	errs = append(errs, podspec.ValidateWorkloadTemplate("ReplicaSet", &s.Template, s.Selector, spec, corev1.RestartPolicyAlways)...)
	errs = append(errs, validateStrategy(&s.Strategy, spec.Child("strategy"))...)
	errs = append(errs, podspec.NonNegativeInt(s.MinReadySeconds, spec.Child("minReadySeconds"))...)
	if s.RevisionHistoryLimit != nil {
		errs = append(errs, podspec.NonNegativeInt(*s.RevisionHistoryLimit, spec.Child("revisionHistoryLimit"))...)
	}
	if p := s.ProgressDeadlineSeconds; p != nil {
		errs = append(errs, podspec.NonNegativeInt(*p, spec.Child("progressDeadlineSeconds"))...)
		if *p <= s.MinReadySeconds {
			errs = append(errs, field.Invalid(spec.Child("progressDeadlineSeconds"), *p, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, at *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(at.Child("rollingUpdate"), "may not be specified when strategy `type` is '"+string(appsv1.RecreateDeploymentStrategyType)+"'")}
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return field.ErrorList{field.Required(at.Child("rollingUpdate"), "this should be defaulted and never be nil")}
		}
		return rolling(s.RollingUpdate.MaxUnavailable, s.RollingUpdate.MaxSurge, at.Child("rollingUpdate"))
	default:
		return field.ErrorList{field.NotSupported(at, s, []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
	}
	return nil
}

func rolling(unavailable, surge *intstr.IntOrString, at *field.Path) field.ErrorList {
	errs := podspec.IntOrPercent(unavailable, at.Child("maxUnavailable"))
	errs = append(errs, podspec.IntOrPercent(surge, at.Child("maxSurge"))...)
	if podspec.IsZero(unavailable) && podspec.IsZero(surge) {
		errs = append(errs, field.Invalid(at.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, podspec.NotMoreThan100(unavailable, at.Child("maxUnavailable"))...)
}

func validateDeploymentUpdate(ctx context.Context, d, old *appsv1.Deployment) field.ErrorList {
	return append(validateDeployment(ctx, d), sameSelector(d.Spec.Selector, old.Spec.Selector)...)
}

func validateDeploymentStatusUpdate(_ context.Context, d, old *appsv1.Deployment) field.ErrorList {
	at := field.NewPath("status")
	s := &d.Status
	errs := replicaCounts(at, s.Replicas, []count{{"updatedReplicas", s.UpdatedReplicas}, {"readyReplicas", s.ReadyReplicas},
		{"availableReplicas", s.AvailableReplicas}, {"unavailableReplicas", s.UnavailableReplicas}}, "unavailableReplicas")
	errs = append(errs, podspec.NonNegativeInt(s.ObservedGeneration, at.Child("observedGeneration"))...)
	errs = append(errs, podspec.NonNegativeInt(ptr.Deref(s.TerminatingReplicas, 0), at.Child("terminatingReplicas"))...)
	errs = append(errs, availableAreReady(s.AvailableReplicas, s.ReadyReplicas, at)...)
	return append(errs, collisions(s.CollisionCount, old.Status.CollisionCount, at)...)
}

// availableAreReady: a pod that is available is ready too.
func availableAreReady(available, ready int32, at *field.Path) field.ErrorList {
	if available > ready {
		return field.ErrorList{field.Invalid(at.Child("availableReplicas"), available, "cannot be greater than readyReplicas")}
	}
	return nil
}

// collisions are counted up.
func collisions(is, was *int32, at *field.Path) field.ErrorList {
	at = at.Child("collisionCount")
	n := ptr.Deref(is, 0)
	errs := podspec.NonNegativeInt(n, at)
	if was != nil && n < *was {
		errs = append(errs, field.Invalid(at, n, "cannot be decremented"))
	}
	return errs
}

type count struct {
	name string
	n    int32
}

// replicaCounts: none is negative, and none but unbound exceeds replicas.
func replicaCounts(at *field.Path, replicas int32, counts []count, unbound string) field.ErrorList {
	errs := podspec.NonNegativeInt(replicas, at.Child("replicas"))
	for _, c := range counts {
		name, n := c.name, c.n
		errs = append(errs, podspec.NonNegativeInt(n, at.Child(name))...)
		if n > replicas && name != unbound {
			errs = append(errs, field.Invalid(at.Child(name), n, "cannot be greater than status.replicas"))
		}
	}
	return errs
}

func validateReplicaSet(_ context.Context, r *appsv1.ReplicaSet) field.ErrorList {
	errs := podspec.NonNegativeInt(*r.Spec.Replicas, spec.Child("replicas"))
	errs = append(errs, podspec.NonNegativeInt(r.Spec.MinReadySeconds, spec.Child("minReadySeconds"))...)
	return append(errs, podspec.ValidateWorkloadTemplate("ReplicaSet", &r.Spec.Template, r.Spec.Selector, spec, corev1.RestartPolicyAlways)...)
}

func validateReplicaSetUpdate(ctx context.Context, r, old *appsv1.ReplicaSet) field.ErrorList {
	return append(validateReplicaSet(ctx, r), sameSelector(r.Spec.Selector, old.Spec.Selector)...)
}

func validateReplicaSetStatusUpdate(_ context.Context, r, _ *appsv1.ReplicaSet) field.ErrorList {
	s, at := &r.Status, field.NewPath("status")
	errs := replicaCounts(at, s.Replicas, []count{{"fullyLabeledReplicas", s.FullyLabeledReplicas},
		{"readyReplicas", s.ReadyReplicas}, {"availableReplicas", s.AvailableReplicas}}, "")
	errs = append(errs, podspec.NonNegativeInt(s.ObservedGeneration, at.Child("observedGeneration"))...)
	errs = append(errs, podspec.NonNegativeInt(ptr.Deref(s.TerminatingReplicas, 0), at.Child("terminatingReplicas"))...)
	return append(errs, availableAreReady(s.AvailableReplicas, s.ReadyReplicas, at)...)
}

func validateDaemonSet(_ context.Context, d *appsv1.DaemonSet) field.ErrorList {
	s := &d.Spec
	errs := podspec.ValidateWorkloadTemplate("DaemonSet", &s.Template, s.Selector, spec, corev1.RestartPolicyAlways)
	errs = append(errs, podspec.NonNegativeInt(s.MinReadySeconds, spec.Child("minReadySeconds"))...)
	if s.RevisionHistoryLimit != nil {
		errs = append(errs, podspec.NonNegativeInt(*s.RevisionHistoryLimit, spec.Child("revisionHistoryLimit"))...)
	}
	at := spec.Child("updateStrategy")
	switch s.UpdateStrategy.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
	case appsv1.RollingUpdateDaemonSetStrategyType:
		r := s.UpdateStrategy.RollingUpdate
		if r == nil {
			return append(errs, field.Required(at.Child("rollingUpdate"), ""))
		}
		at = at.Child("rollingUpdate")
		errs = append(errs, podspec.IntOrPercent(r.MaxUnavailable, at.Child("maxUnavailable"))...)
		errs = append(errs, podspec.IntOrPercent(r.MaxSurge, at.Child("maxSurge"))...)
		switch {
		case none(r.MaxUnavailable) && none(r.MaxSurge):
			errs = append(errs, field.Required(at.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
		case !none(r.MaxUnavailable) && !none(r.MaxSurge):
			errs = append(errs, field.Invalid(at.Child("maxSurge"), r.MaxSurge, "may not be set when maxUnavailable is non-zero"))
		}
		errs = append(errs, podspec.NotMoreThan100(r.MaxUnavailable, at.Child("maxUnavailable"))...)
		errs = append(errs, podspec.NotMoreThan100(r.MaxSurge, at.Child("maxSurge"))...)
	default:
		errs = append(errs, field.NotSupported(at, s.UpdateStrategy, []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType}))
	}
	return errs
}

// none tells whether a count or share is of no pod; one that cannot be read is.
func none(v *intstr.IntOrString) bool {
	return podspec.IsZero(v) || v.Type == intstr.String && len(validation.IsValidPercent(v.StrVal)) > 0
}

func validateDaemonSetUpdate(ctx context.Context, d, old *appsv1.DaemonSet) field.ErrorList {
	return append(validateDaemonSet(ctx, d), sameSelector(d.Spec.Selector, old.Spec.Selector)...)
}

func validateDaemonSetStatusUpdate(_ context.Context, d, old *appsv1.DaemonSet) field.ErrorList {
	at := field.NewPath("status")
	s := &d.Status
	var errs field.ErrorList
	for _, c := range []count{{"currentNumberScheduled", s.CurrentNumberScheduled}, {"numberMisscheduled", s.NumberMisscheduled},
		{"desiredNumberScheduled", s.DesiredNumberScheduled}, {"numberReady", s.NumberReady}, {"updatedNumberScheduled", s.UpdatedNumberScheduled},
		{"numberAvailable", s.NumberAvailable}, {"numberUnavailable", s.NumberUnavailable}} {
		errs = append(errs, podspec.NonNegativeInt(c.n, at.Child(c.name))...)
	}
	errs = append(errs, podspec.NonNegativeInt(s.ObservedGeneration, at.Child("observedGeneration"))...)
	return append(errs, collisions(s.CollisionCount, old.Status.CollisionCount, at)...)
}

func validateControllerRevision(_ context.Context, r *appsv1.ControllerRevision) field.ErrorList {
	errs := podspec.NonNegativeInt(r.Revision, field.NewPath("revision"))
	at := field.NewPath("data")
	if r.Data.Raw == nil && r.Data.Object == nil {
		return append(errs, field.Required(at, "data is mandatory"))
	}
	if object := map[string]json.RawMessage(nil); r.Data.Object == nil && json.Unmarshal(r.Data.Raw, &object) != nil {
		errs = append(errs, field.Required(at, "data must be a valid JSON object"))
	}
	return errs
}

func validateControllerRevisionUpdate(ctx context.Context, r, old *appsv1.ControllerRevision) field.ErrorList {
	return append(validateControllerRevision(ctx, r), apivalidation.ValidateImmutableField(r.Data, old.Data, field.NewPath("data"))...)
}
