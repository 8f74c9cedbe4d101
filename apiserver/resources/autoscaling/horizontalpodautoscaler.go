package autoscaling

import (
	"strconv"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

type hpa = autoscalingv2.HorizontalPodAutoscaler

type hpaStrategy = resources.TypedStrategy[hpa, *hpa]

func horizontalPodAutoscalers() resources.Resource {
	r := resources.Resource{
		Group: "autoscaling", Kind: "HorizontalPodAutoscaler", Plural: "horizontalpodautoscalers",
		ShortNames: []string{"hpa"}, Categories: []string{"all"}, Namespaced: true,
		Path: "horizontalpodautoscalers", Hub: "v2",
		Versions: []resources.Version{
			resources.HubVersion("v2", resources.Empty[autoscalingv2.HorizontalPodAutoscalerList], hpaDefaults),
			{
				Name:    "v1",
				New:     resources.Empty[autoscalingv1.HorizontalPodAutoscaler],
				NewList: resources.Empty[autoscalingv1.HorizontalPodAutoscalerList],
				Default: func(obj runtime.Object) { hpaV1Defaults(obj.(*autoscalingv1.HorizontalPodAutoscaler)) },
				ToHub:   fromV1,
				FromHub: toV1,
			},
		},
	}
	r.Columns = table.Columns(table.Name(), table.Text("Reference", "What is scaled."),
		table.Text("Targets", "Each metric's value, and the one aimed at."), table.Text("MinPods", "The fewest replicas."),
		table.Text("MaxPods", "The most replicas."), table.Text("Replicas", "Number of replicas that exist."), table.Age())
	main, status := resources.SpecStatus(hpaStrategy{
		AllowUnconditionalUpdate: true,
		Generation:               true,
		Validate:                 validateHPA,
		ValidateUpdate:           validateHPAUpdate,
	}, func(h *hpa) *autoscalingv2.HorizontalPodAutoscalerSpec { return &h.Spec },
		func(h *hpa) *autoscalingv2.HorizontalPodAutoscalerStatus { return &h.Status })
	status.ValidateUpdate = validateHPAStatusUpdate
	return resources.Declare(resources.Spec[hpa, *hpa]{
		Resource: r, Strategy: main, Views: map[string]hpaStrategy{"status": status},
		Row: func(h *hpa) []any {
			least := "<unset>"
			if h.Spec.MinReplicas != nil {
				least = strconv.Itoa(int(*h.Spec.MinReplicas))
			}
			return []any{h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name,
				formatMetrics(h.Spec.Metrics, h.Status.CurrentMetrics), least, int64(h.Spec.MaxReplicas),
				int64(h.Status.CurrentReplicas), table.Since(h.CreationTimestamp)}
		},
	})
}

func formatMetrics(specs []autoscalingv2.MetricSpec, statuses []autoscalingv2.MetricStatus) string {
	if len(specs) == 0 {
		return "<none>"
	}
	const most = 2
	var list []string
	for i, spec := range specs {
		if i == most {
			return strings.Join(list, ", ") + " + " + strconv.Itoa(len(specs)-most) + " more..."
		}
		var status autoscalingv2.MetricStatus
		if i < len(statuses) {
			status = statuses[i]
		}
		list = append(list, formatMetric(spec, status))
	}
	return strings.Join(list, ", ")
}

func formatMetric(spec autoscalingv2.MetricSpec, status autoscalingv2.MetricStatus) string {
	const unknown = "<unknown>"
	switch spec.Type {
	case autoscalingv2.ExternalMetricSourceType:
		if spec.External == nil {
			break
		}
		current := unknown
		if avg := spec.External.Target.AverageValue; avg != nil {
			if status.External != nil && status.External.Current.AverageValue != nil {
				current = status.External.Current.AverageValue.String()
			}
			return current + "/" + avg.String() + " (avg)"
		}
		if status.External != nil && status.External.Current.Value != nil {
			current = status.External.Current.Value.String()
		}
		if v := spec.External.Target.Value; v != nil {
			return current + "/" + v.String()
		}
	case autoscalingv2.PodsMetricSourceType:
		if spec.Pods == nil || spec.Pods.Target.AverageValue == nil {
			break
		}
		current := unknown
		if status.Pods != nil && status.Pods.Current.AverageValue != nil {
			current = status.Pods.Current.AverageValue.String()
		}
		return current + "/" + spec.Pods.Target.AverageValue.String()
	case autoscalingv2.ObjectMetricSourceType:
		if spec.Object == nil {
			break
		}
		current := unknown
		if avg := spec.Object.Target.AverageValue; avg != nil {
			if status.Object != nil && status.Object.Current.AverageValue != nil {
				current = status.Object.Current.AverageValue.String()
			}
			return current + "/" + avg.String() + " (avg)"
		}
		if status.Object != nil && status.Object.Current.Value != nil {
			current = status.Object.Current.Value.String()
		}
		if v := spec.Object.Target.Value; v != nil {
			return current + "/" + v.String()
		}
	case autoscalingv2.ResourceMetricSourceType:
		if spec.Resource == nil {
			break
		}
		var current *autoscalingv2.MetricValueStatus
		if status.Resource != nil {
			current = &status.Resource.Current
		}
		return string(spec.Resource.Name) + ": " + formatUsage(spec.Resource.Target, current)
	case autoscalingv2.ContainerResourceMetricSourceType:
		if spec.ContainerResource == nil {
			break
		}
		var current *autoscalingv2.MetricValueStatus
		if status.ContainerResource != nil {
			current = &status.ContainerResource.Current
		}
		return string(spec.ContainerResource.Name) + ": " + formatUsage(spec.ContainerResource.Target, current)
	}
	return "<unknown type>"
}

func formatUsage(target autoscalingv2.MetricTarget, current *autoscalingv2.MetricValueStatus) string {
	now := "<unknown>"
	if target.AverageValue != nil {
		if current != nil && current.AverageValue != nil {
			now = current.AverageValue.String()
		}
		return now + "/" + target.AverageValue.String()
	}
	if current != nil && current.AverageUtilization != nil {
		now = strconv.Itoa(int(*current.AverageUtilization)) + "%"
	}
	aim := "<auto>"
	if target.AverageUtilization != nil {
		aim = strconv.Itoa(int(*target.AverageUtilization)) + "%"
	}
	return now + "/" + aim
}

func hpaV1Defaults(h *autoscalingv1.HorizontalPodAutoscaler) {
	if h.Spec.MinReplicas == nil {
		h.Spec.MinReplicas = ptr.To[int32](1)
	}
}

// hpaDefaults aims, where no metric is named, at 80 percent of the requested
// cpu, and completes the scaling rules of a behavior that is given.
func hpaDefaults(h *hpa) {
	if h.Spec.MinReplicas == nil {
		h.Spec.MinReplicas = ptr.To[int32](1)
	}
	if len(h.Spec.Metrics) == 0 {
		h.Spec.Metrics = []autoscalingv2.MetricSpec{cpuMetric(defaultCPU)}
	}
	b := h.Spec.Behavior
	if b == nil {
		return
	}
	b.ScaleUp = completeRules(b.ScaleUp, &autoscalingv2.HPAScalingRules{
		StabilizationWindowSeconds: ptr.To[int32](0),
		SelectPolicy:               ptr.To(autoscalingv2.MaxChangePolicySelect),
		Policies: []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
			{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
		},
	})
	b.ScaleDown = completeRules(b.ScaleDown, &autoscalingv2.HPAScalingRules{
		SelectPolicy: ptr.To(autoscalingv2.MaxChangePolicySelect),
		Policies: []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
		},
	})
}

func completeRules(from, rules *autoscalingv2.HPAScalingRules) *autoscalingv2.HPAScalingRules {
	if from == nil {
		return rules
	}
	if from.SelectPolicy != nil {
		rules.SelectPolicy = from.SelectPolicy
	}
	if from.StabilizationWindowSeconds != nil {
		rules.StabilizationWindowSeconds = from.StabilizationWindowSeconds
	}
	if from.Policies != nil {
		rules.Policies = from.Policies
	}
	rules.Tolerance = from.Tolerance
	return rules
}

// defaultCPU is what share of their requested cpu pods are to use where nothing else
// is aimed at.
const defaultCPU = 80

func cpuMetric(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{
		Type: autoscalingv2.ResourceMetricSourceType,
		Resource: &autoscalingv2.ResourceMetricSource{
			Name:   "cpu",
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To(percent)},
		},
	}
}
