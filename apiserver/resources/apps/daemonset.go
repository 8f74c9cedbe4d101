package apps

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type daemonSetStrategy = resources.TypedStrategy[appsv1.DaemonSet, *appsv1.DaemonSet]

func daemonSets() resources.Resource {
	r := namespaced("DaemonSet", "daemonsets", "ds")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[appsv1.DaemonSetList], daemonSetDefaults)}
	r.Columns = append(table.Columns(table.Name(), table.Int("Desired", "Number of nodes that should run the pod."),
		table.Int("Current", "Number of nodes that have the pod."), table.Int("Ready", "Number of nodes whose pod is ready."),
		table.Int("Up-to-date", "Number of nodes with the latest pod."),
		table.Int("Available", "Number of nodes whose pod has been ready for long enough."),
		table.Text("Node Selector", "Labels of the nodes that should run the pod."), table.Age()),
		append(table.ContainersColumns(), table.Wide(table.Text("Selector", "Label selector for pods.")))...)
	main, status := resources.SpecStatus(daemonSetStrategy{
		Generation:               true,
		AllowUnconditionalUpdate: true,
		Validate:                 validateDaemonSet,
		ValidateUpdate:           validateDaemonSetUpdate,
		Warnings: func(_ context.Context, ds, old *appsv1.DaemonSet) []string {
			var before *appsv1.DaemonSetSpec
			if old != nil {
				before = &old.Spec
			}
			return templateWarnings(&ds.Spec.Template, &ds.Spec, before)
		},
	}, func(ds *appsv1.DaemonSet) *appsv1.DaemonSetSpec { return &ds.Spec },
		func(ds *appsv1.DaemonSet) *appsv1.DaemonSetStatus { return &ds.Status })
	main.PrepareForCreate = withTemplateGeneration(main.PrepareForCreate)
	main.PrepareForUpdate = keepTemplateGeneration(main.PrepareForUpdate)
	status.ValidateUpdate = validateDaemonSetStatusUpdate
	return resources.Declare(resources.Spec[appsv1.DaemonSet, *appsv1.DaemonSet]{
		Resource: r, Strategy: main, Views: map[string]daemonSetStrategy{"status": status},
		Row: func(ds *appsv1.DaemonSet) []any {
			names, images := table.Containers(ds.Spec.Template.Spec.Containers)
			return []any{ds.Name, int64(ds.Status.DesiredNumberScheduled), int64(ds.Status.CurrentNumberScheduled),
				int64(ds.Status.NumberReady), int64(ds.Status.UpdatedNumberScheduled), int64(ds.Status.NumberAvailable),
				labels.FormatLabels(ds.Spec.Template.Spec.NodeSelector), table.Since(ds.CreationTimestamp),
				names, images, metav1.FormatLabelSelector(ds.Spec.Selector)}
		},
	})
}

func daemonSetDefaults(ds *appsv1.DaemonSet) {
	spec := &ds.Spec
	podspec.SetTemplateDefaults(&spec.Template)
	strategy := &spec.UpdateStrategy
	if strategy.Type == "" {
		strategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if strategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if strategy.RollingUpdate == nil {
			strategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
		}
		if strategy.RollingUpdate.MaxUnavailable == nil {
			strategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(1))
		}
		if strategy.RollingUpdate.MaxSurge == nil {
			strategy.RollingUpdate.MaxSurge = ptr.To(intstr.FromInt32(0))
		}
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To[int32](10)
	}
}
