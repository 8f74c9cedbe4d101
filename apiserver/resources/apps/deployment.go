package apps

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type deploymentStrategy = resources.TypedStrategy[appsv1.Deployment, *appsv1.Deployment]

func deployments() resources.Resource {
	r := namespaced("Deployment", "deployments", "deploy")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[appsv1.DeploymentList], deploymentDefaults)}
	r.Subresources = map[string]resources.Subresource{"scale": resources.Scale()}
	r.Columns = append(table.Columns(table.Name(), table.Text("Ready", "Number of pods that are ready, of those desired."),
		table.Text("Up-to-date", "Number of pods of the latest template."),
		table.Text("Available", "Number of pods that have been ready for long enough."), table.Age()),
		append(table.ContainersColumns(), table.Wide(table.Text("Selector", "Label selector for pods.")))...)
	main, status := resources.SpecStatus(deploymentStrategy{
		Generation:               true,
		AllowUnconditionalUpdate: true,
		// Annotations count: what they say takes part in rolling out.
		GenerationChanged: func(d, old *appsv1.Deployment) bool {
			return !equality.Semantic.DeepEqual(d.Spec, old.Spec) ||
				!equality.Semantic.DeepEqual(d.Annotations, old.Annotations)
		},
		Validate:       validateDeployment,
		ValidateUpdate: validateDeploymentUpdate,
		Warnings: func(_ context.Context, d, old *appsv1.Deployment) []string {
			var before *appsv1.DeploymentSpec
			if old != nil {
				before = &old.Spec
			}
			warnings := templateWarnings(&d.Spec.Template, &d.Spec, before)
			if old == nil {
				warnings = append(podspec.NameWarnings(d.Name), warnings...)
			}
			return warnings
		},
	}, func(d *appsv1.Deployment) *appsv1.DeploymentSpec { return &d.Spec },
		func(d *appsv1.Deployment) *appsv1.DeploymentStatus { return &d.Status })
	specOnly := status.PrepareForUpdate
	status.PrepareForUpdate = func(ctx context.Context, d, old *appsv1.Deployment) {
		specOnly(ctx, d, old)
		d.Labels = old.Labels
	}
	status.ResetFields = []string{"spec", "metadata.labels"}
	status.ValidateUpdate = validateDeploymentStatusUpdate
	return resources.Declare(resources.Spec[appsv1.Deployment, *appsv1.Deployment]{
		Resource: r, Strategy: main, Views: map[string]deploymentStrategy{"status": status},
		Row: func(d *appsv1.Deployment) []any {
			names, images := table.Containers(d.Spec.Template.Spec.Containers)
			return []any{d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, ptr.Deref(d.Spec.Replicas, 0)),
				int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas), table.Since(d.CreationTimestamp),
				names, images, metav1.FormatLabelSelector(d.Spec.Selector)}
		},
	})
}

func deploymentDefaults(d *appsv1.Deployment) {
	spec := &d.Spec
	podspec.SetTemplateDefaults(&spec.Template)
	if spec.Replicas == nil {
		spec.Replicas = ptr.To[int32](1)
	}
	strategy := &spec.Strategy
	if strategy.Type == "" {
		strategy.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if strategy.RollingUpdate == nil {
			strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		if strategy.RollingUpdate.MaxUnavailable == nil {
			strategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromString("25%"))
		}
		if strategy.RollingUpdate.MaxSurge == nil {
			strategy.RollingUpdate.MaxSurge = ptr.To(intstr.FromString("25%"))
		}
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = ptr.To[int32](10)
	}
	if spec.ProgressDeadlineSeconds == nil {
		spec.ProgressDeadlineSeconds = ptr.To[int32](600)
	}
}
