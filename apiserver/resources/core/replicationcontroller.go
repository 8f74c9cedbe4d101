package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"strconv"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type rcStrategy = resources.TypedStrategy[corev1.ReplicationController, *corev1.ReplicationController]

func replicationControllers() resources.Resource {
	r := namespaced("ReplicationController", "replicationcontrollers", "rc")
	r.Path = "controllers"
	r.Categories = []string{"all"}
	r.Versions = v1(func() runtime.Object { return &corev1.ReplicationControllerList{} }, rcDefaults)
	r.Columns = append(table.Columns(table.Name(), table.Int("Desired", "Number of desired pods."),
		table.Int("Current", "Number of pods that exist."), table.Int("Ready", "Number of pods that are ready."),
		table.Age()), append(table.ContainersColumns(), table.Wide(table.Text("Selector", "Label selector for pods.")))...)
	r.Subresources = map[string]resources.Subresource{
		"scale": {Group: "autoscaling", Version: "v1", Kind: "Scale", Verbs: resources.StatusVerbs, Connect: resources.ConnectScale},
	}
	return resources.Declare(resources.Spec[corev1.ReplicationController, *corev1.ReplicationController]{
		Resource: r,
		Strategy: rcStrategy{
			AllowUnconditionalUpdate: true,
			Validate:                 validateRC, ValidateUpdate: validateRCUpdate,
			Warnings:           rcWarnings,
			Generation:         true,
			DefaultPropagation: ptr.To(metav1.DeletePropagationOrphan),
			PrepareForCreate: func(_ context.Context, rc *corev1.ReplicationController) {
				rc.Status = corev1.ReplicationControllerStatus{}
			},
			PrepareForUpdate: func(_ context.Context, rc, old *corev1.ReplicationController) { rc.Status = old.Status },
			ResetFields:      []string{"status"},
		},
		Views: map[string]rcStrategy{"status": {
			AllowUnconditionalUpdate: true,
			PrepareForUpdate:         func(_ context.Context, rc, old *corev1.ReplicationController) { rc.Spec = old.Spec },
			ValidateUpdate:           validateRCStatusUpdate,
			ResetFields:              []string{"spec"},
		}},
		SelectableFields: map[string]func(*corev1.ReplicationController) string{
			"status.replicas": func(rc *corev1.ReplicationController) string { return strconv.Itoa(int(rc.Status.Replicas)) },
		},
		Row: func(rc *corev1.ReplicationController) []any {
			names, images := "", ""
			if rc.Spec.Template != nil {
				names, images = table.Containers(rc.Spec.Template.Spec.Containers)
			}
			return []any{rc.Name, int64(ptr.Deref(rc.Spec.Replicas, 0)), int64(rc.Status.Replicas), int64(rc.Status.ReadyReplicas),
				table.Since(rc.CreationTimestamp), names, images, labels.FormatLabels(rc.Spec.Selector)}
		},
	})
}

// rcDefaults takes a missing selector and missing labels from the template.
func rcDefaults(rc *corev1.ReplicationController) {
	if t := rc.Spec.Template; t != nil {
		podspec.SetTemplateDefaults(t)
		if len(t.Labels) > 0 {
			if len(rc.Spec.Selector) == 0 {
				rc.Spec.Selector = t.Labels
			}
			if len(rc.Labels) == 0 {
				rc.Labels = t.Labels
			}
		}
	}
	if rc.Spec.Replicas == nil {
		rc.Spec.Replicas = ptr.To[int32](1)
	}
}
