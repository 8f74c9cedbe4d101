package apps

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type statefulSetStrategy = resources.TypedStrategy[appsv1.StatefulSet, *appsv1.StatefulSet]

func statefulSets() resources.Resource {
	r := namespaced("StatefulSet", "statefulsets", "sts")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[appsv1.StatefulSetList], statefulSetDefaults)}
	r.Subresources = map[string]resources.Subresource{"scale": resources.Scale()}
	r.Columns = append(table.Columns(table.Name(), table.Text("Ready", "Number of pods that are ready, of those desired."), table.Age()),
		table.ContainersColumns()...)
	main, status := resources.SpecStatus(statefulSetStrategy{
		Generation:               true,
		AllowUnconditionalUpdate: true,
		NameValidation:           apivalidation.NameIsDNSLabel,
		Validate:                 validateNewStatefulSet,
		ValidateUpdate:           validateStatefulSetUpdate,
		Warnings: func(_ context.Context, s, old *appsv1.StatefulSet) []string {
			var before *appsv1.StatefulSetSpec
			if old != nil {
				before = &old.Spec
			}
			warnings := templateWarnings(&s.Spec.Template, &s.Spec, before)
			for i := range s.Spec.VolumeClaimTemplates {
				if old == nil {
					warnings = append(warnings, podspec.ClaimWarnings(&s.Spec.VolumeClaimTemplates[i].Spec, field.NewPath("spec", "volumeClaimTemplates").Index(i).Child("Spec"))...)
				}
			}
			if s.Spec.RevisionHistoryLimit != nil && *s.Spec.RevisionHistoryLimit < 0 {
				warnings = append(warnings, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
			}
			return warnings
		},
	}, func(s *appsv1.StatefulSet) *appsv1.StatefulSetSpec { return &s.Spec },
		func(s *appsv1.StatefulSet) *appsv1.StatefulSetStatus { return &s.Status })
	status.ValidateUpdate = validateStatefulSetStatusUpdate
	return resources.Declare(resources.Spec[appsv1.StatefulSet, *appsv1.StatefulSet]{
		Resource: r, Strategy: main, Views: map[string]statefulSetStrategy{"status": status},
		Row: func(s *appsv1.StatefulSet) []any {
			names, images := table.Containers(s.Spec.Template.Spec.Containers)
			return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, ptr.Deref(s.Spec.Replicas, 0)),
				table.Since(s.CreationTimestamp), names, images}
		},
	})
}

func statefulSetDefaults(s *appsv1.StatefulSet) {
	spec := &s.Spec
	podspec.SetTemplateDefaults(&spec.Template)
	if spec.PodManagementPolicy == "" {
		spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	if spec.UpdateStrategy.Type == "" {
		spec.UpdateStrategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		if spec.UpdateStrategy.RollingUpdate == nil {
			spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
		}
	}
	if spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && spec.UpdateStrategy.RollingUpdate != nil {
		if spec.UpdateStrategy.RollingUpdate.Partition == nil {
			spec.UpdateStrategy.RollingUpdate.Partition = ptr.To[int32](0)
		}
		if spec.UpdateStrategy.RollingUpdate.MaxUnavailable == nil {
			spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(1))
		}
	}
	if spec.PersistentVolumeClaimRetentionPolicy == nil {
		spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	}
	for _, policy := range []*appsv1.PersistentVolumeClaimRetentionPolicyType{
		&spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, &spec.PersistentVolumeClaimRetentionPolicy.WhenScaled,
	} {
		if *policy == "" {
			*policy = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
		}
	}
	if spec.Replicas == nil {
		spec.Replicas = ptr.To[int32](1)
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To[int32](10)
	}
	for i := range spec.VolumeClaimTemplates {
		c := &spec.VolumeClaimTemplates[i]
		if c.APIVersion == "" {
			c.APIVersion = "v1"
		}
		if c.Kind == "" {
			c.Kind = "PersistentVolumeClaim"
		}
		podspec.SetClaimSpecDefaults(&c.Spec)
		if c.Status.Phase == "" {
			c.Status.Phase = corev1.ClaimPending
		}
	}
}
