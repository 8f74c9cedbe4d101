package apps

import (
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

// validateNewStatefulSet checks the claims' templates too. They never change, and
// those of sets from before this rule may break it.
func validateNewStatefulSet(ctx context.Context, s *appsv1.StatefulSet) field.ErrorList {
	errs := validateStatefulSet(ctx, s)
	for i := range s.Spec.VolumeClaimTemplates {
		errs = append(errs, podspec.ValidateClaimSpec(&s.Spec.VolumeClaimTemplates[i].Spec, spec.Child("volumeClaimTemplates").Index(i).Child("spec"))...)
	}
	return errs
}

func validateStatefulSet(_ context.Context, s *appsv1.StatefulSet) field.ErrorList {
	var errs field.ErrorList
	switch s.Spec.PodManagementPolicy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	case "":
		errs = append(errs, field.Required(spec.Child("podManagementPolicy"), ""))
	default:
		errs = append(errs, field.Invalid(spec.Child("podManagementPolicy"), s.Spec.PodManagementPolicy, "must be '"+string(appsv1.OrderedReadyPodManagement)+"' or '"+string(appsv1.ParallelPodManagement)+"'"))
	}
	at := spec.Child("updateStrategy")
	switch u := &s.Spec.UpdateStrategy; u.Type {
	case "":
		errs = append(errs, field.Required(at, ""))
	case appsv1.OnDeleteStatefulSetStrategyType:
		if u.RollingUpdate != nil {
			errs = append(errs, field.Invalid(at.Child("rollingUpdate"), u.RollingUpdate, "only allowed for updateStrategy '"+string(appsv1.RollingUpdateStatefulSetStrategyType)+"'"))
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if r := u.RollingUpdate; r != nil {
			if r.Partition != nil {
				errs = append(errs, podspec.NonNegativeInt(*r.Partition, at.Child("rollingUpdate", "partition"))...)
			}
			if r.MaxUnavailable != nil {
				at := at.Child("rollingUpdate", "maxUnavailable")
				errs = append(errs, podspec.IntOrPercent(r.MaxUnavailable, at)...)
				if podspec.IsZero(r.MaxUnavailable) {
					errs = append(errs, field.Invalid(at, *r.MaxUnavailable, "cannot be 0"))
				}
				errs = append(errs, podspec.NotMoreThan100(r.MaxUnavailable, at)...)
			}
		}
	default:
		errs = append(errs, field.Invalid(at, s.Spec.UpdateStrategy, "must be 'RollingUpdate' or 'OnDelete'"))
	}
	if p := s.Spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		at := spec.Child("persistentVolumeClaimRetentionPolicy")
		for i, v := range []appsv1.PersistentVolumeClaimRetentionPolicyType{p.WhenDeleted, p.WhenScaled} {
			name := []string{"whenDeleted", "whenScaled"}[i]
			switch v {
			case appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType:
			default:
				errs = append(errs, field.NotSupported(at.Child(name), v, []appsv1.PersistentVolumeClaimRetentionPolicyType{
					appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType}))
			}
		}
	}
	errs = append(errs, podspec.NonNegativeInt(*s.Spec.Replicas, spec.Child("replicas"))...)
	errs = append(errs, podspec.NonNegativeInt(s.Spec.MinReadySeconds, spec.Child("minReadySeconds"))...)
	if o := s.Spec.Ordinals; o != nil {
		errs = append(errs, podspec.NonNegativeInt(o.Start, spec.Child("ordinals", "start"))...)
	}
	if p := s.Spec.RevisionHistoryLimit; p != nil {
		errs = append(errs, podspec.NonNegativeInt(*p, spec.Child("revisionHistoryLimit"))...)
	}
	return append(errs, podspec.ValidateWorkloadTemplate("StatefulSet", withClaims(s), s.Spec.Selector, spec, corev1.RestartPolicyAlways)...)
}

// withClaims is the template with the volumes that pods get for the claims, which
// their containers may mount.
func withClaims(s *appsv1.StatefulSet) *corev1.PodTemplateSpec {
	t := s.Spec.Template.DeepCopy()
	for _, c := range s.Spec.VolumeClaimTemplates {
		if slices.ContainsFunc(t.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == c.Name }) {
			continue
		}
		t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Name},
		}})
	}
	return t
}

// validateStatefulSetUpdate lets only some of the specification change.
func validateStatefulSetUpdate(ctx context.Context, s, old *appsv1.StatefulSet) field.ErrorList {
	errs := validateStatefulSet(ctx, s)
	errs = append(errs, apivalidation.ValidateImmutableField(s.Spec.ServiceName, old.Spec.ServiceName, spec.Child("serviceName"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(s.Spec.PodManagementPolicy, old.Spec.PodManagementPolicy, spec.Child("podManagementPolicy"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(s.Spec.VolumeClaimTemplates, old.Spec.VolumeClaimTemplates, spec.Child("volumeClaimTemplates"))...)
	errs = append(errs, sameSelector(s.Spec.Selector, old.Spec.Selector)...)
	allowed := s.Spec.DeepCopy()
	allowed.ServiceName = old.Spec.ServiceName
	allowed.PodManagementPolicy = old.Spec.PodManagementPolicy
	allowed.VolumeClaimTemplates = old.Spec.VolumeClaimTemplates
	allowed.Selector = old.Spec.Selector
	allowed.Replicas = old.Spec.Replicas
	allowed.Template = old.Spec.Template
	allowed.UpdateStrategy = old.Spec.UpdateStrategy
	allowed.MinReadySeconds = old.Spec.MinReadySeconds
	allowed.Ordinals = old.Spec.Ordinals
	allowed.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	allowed.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if !equality.Semantic.DeepEqual(*allowed, old.Spec) {
		errs = append(errs, field.Forbidden(spec, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
	}
	return errs
}

func validateStatefulSetStatusUpdate(_ context.Context, s, old *appsv1.StatefulSet) field.ErrorList {
	at := field.NewPath("status")
	st := &s.Status
	errs := replicaCounts(at, st.Replicas, []count{{"readyReplicas", st.ReadyReplicas}, {"currentReplicas", st.CurrentReplicas},
		{"updatedReplicas", st.UpdatedReplicas}, {"availableReplicas", st.AvailableReplicas}}, "")
	errs = append(errs, podspec.NonNegativeInt(st.ObservedGeneration, at.Child("observedGeneration"))...)
	if st.AvailableReplicas > st.ReadyReplicas {
		errs = append(errs, field.Invalid(at.Child("availableReplicas"), st.AvailableReplicas, "cannot be greater than status.readyReplicas"))
	}
	return append(errs, collisions(st.CollisionCount, old.Status.CollisionCount, at)...)
}
