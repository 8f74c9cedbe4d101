package apps

import (
	"context"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type replicaSetStrategy = resources.TypedStrategy[appsv1.ReplicaSet, *appsv1.ReplicaSet]

func replicaSets() resources.Resource {
	r := namespaced("ReplicaSet", "replicasets", "rs")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[appsv1.ReplicaSetList], replicaSetDefaults)}
	r.Subresources = map[string]resources.Subresource{"scale": resources.Scale()}
	r.Columns = append(table.Columns(table.Name(), table.Int("Desired", "Number of desired pods."),
		table.Int("Current", "Number of pods that exist."), table.Int("Ready", "Number of pods that are ready."), table.Age()),
		append(table.ContainersColumns(), table.Wide(table.Text("Selector", "Label selector for pods.")))...)
	main, status := resources.SpecStatus(replicaSetStrategy{
		Generation:               true,
		AllowUnconditionalUpdate: true,
		Validate:                 validateReplicaSet,
		ValidateUpdate:           validateReplicaSetUpdate,
		Warnings: func(_ context.Context, rs, old *appsv1.ReplicaSet) []string {
			var before *appsv1.ReplicaSetSpec
			if old != nil {
				before = &old.Spec
			}
			warnings := templateWarnings(&rs.Spec.Template, &rs.Spec, before)
			if old == nil {
				warnings = append(podspec.NameWarnings(rs.Name), warnings...)
			}
			return warnings
		},
	}, func(rs *appsv1.ReplicaSet) *appsv1.ReplicaSetSpec { return &rs.Spec },
		func(rs *appsv1.ReplicaSet) *appsv1.ReplicaSetStatus { return &rs.Status })
	status.ValidateUpdate = validateReplicaSetStatusUpdate
	return resources.Declare(resources.Spec[appsv1.ReplicaSet, *appsv1.ReplicaSet]{
		Resource: r, Strategy: main, Views: map[string]replicaSetStrategy{"status": status},
		SelectableFields: map[string]func(*appsv1.ReplicaSet) string{
			"status.replicas": func(rs *appsv1.ReplicaSet) string { return strconv.Itoa(int(rs.Status.Replicas)) },
		},
		Row: func(rs *appsv1.ReplicaSet) []any {
			names, images := table.Containers(rs.Spec.Template.Spec.Containers)
			return []any{rs.Name, int64(ptr.Deref(rs.Spec.Replicas, 0)), int64(rs.Status.Replicas),
				int64(rs.Status.ReadyReplicas), table.Since(rs.CreationTimestamp), names, images, metav1.FormatLabelSelector(rs.Spec.Selector)}
		},
	})
}

func replicaSetDefaults(rs *appsv1.ReplicaSet) {
	podspec.SetTemplateDefaults(&rs.Spec.Template)
	if rs.Spec.Replicas == nil {
		rs.Spec.Replicas = ptr.To[int32](1)
	}
}
