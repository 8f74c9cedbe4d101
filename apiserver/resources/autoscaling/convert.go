package autoscaling

import (
	"encoding/json"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// The first version has only a cpu target; all else of the second travels
// through it in annotations.

func typeMeta(version string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: "autoscaling/" + version, Kind: "HorizontalPodAutoscaler"}
}

func toV1(in runtime.Object) (runtime.Object, error) {
	from, ok := in.(*hpa)
	if !ok {
		return nil, fmt.Errorf("converting to autoscaling/v1: got a %T", in)
	}
	h := from.DeepCopy()
	out := &autoscalingv1.HorizontalPodAutoscaler{
		TypeMeta:   typeMeta("v1"),
		ObjectMeta: h.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(h.Spec.ScaleTargetRef),
			MinReplicas:    h.Spec.MinReplicas,
			MaxReplicas:    h.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: h.Status.ObservedGeneration,
			LastScaleTime:      h.Status.LastScaleTime,
			CurrentReplicas:    h.Status.CurrentReplicas,
			DesiredReplicas:    h.Status.DesiredReplicas,
		},
	}
	dropRoundTrip(&out.ObjectMeta)
	var others []autoscalingv1.MetricSpec
	for _, m := range h.Spec.Metrics {
		if m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == "cpu" &&
			m.Resource.Target.AverageUtilization != nil {
			out.Spec.TargetCPUUtilizationPercentage = m.Resource.Target.AverageUtilization
			continue
		}
		others = append(others, metricToV1(m))
	}
	var currents []autoscalingv1.MetricStatus
	for _, m := range h.Status.CurrentMetrics {
		if m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == "cpu" &&
			m.Resource.Current.AverageUtilization != nil {
			out.Status.CurrentCPUUtilizationPercentage = m.Resource.Current.AverageUtilization
		}
		currents = append(currents, statusToV1(m))
	}
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	for _, c := range h.Status.Conditions {
		conditions = append(conditions, autoscalingv1.HorizontalPodAutoscalerCondition{
			Type: autoscalingv1.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	for key, value := range map[string]struct {
		set  bool
		from any
	}{
		metricsAnnotation:    {len(others) > 0, others},
		currentAnnotation:    {len(currents) > 0, currents},
		conditionsAnnotation: {len(conditions) > 0, conditions},
		behaviorAnnotation:   {h.Spec.Behavior != nil, behaviorToV1(h.Spec.Behavior)},
	} {
		if !value.set {
			continue
		}
		text, err := json.Marshal(value.from)
		if err != nil {
			return nil, fmt.Errorf("converting to autoscaling/v1: %s: %w", key, err)
		}
		metav1.SetMetaDataAnnotation(&out.ObjectMeta, key, string(text))
	}
	return out, nil
}

func fromV1(in runtime.Object) (runtime.Object, error) {
	from, ok := in.(*autoscalingv1.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("converting from autoscaling/v1: got a %T", in)
	}
	h := from.DeepCopy()
	out := &hpa{
		TypeMeta:   typeMeta("v2"),
		ObjectMeta: h.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(h.Spec.ScaleTargetRef),
			MinReplicas:    h.Spec.MinReplicas,
			MaxReplicas:    h.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			ObservedGeneration: h.Status.ObservedGeneration,
			LastScaleTime:      h.Status.LastScaleTime,
			CurrentReplicas:    h.Status.CurrentReplicas,
			DesiredReplicas:    h.Status.DesiredReplicas,
		},
	}
	// An annotation that does not parse was not made here: it says nothing.
	read := func(key string, into any) bool {
		text, ok := h.Annotations[key]
		return ok && json.Unmarshal([]byte(text), into) == nil
	}
	var metrics []autoscalingv1.MetricSpec
	read(metricsAnnotation, &metrics)
	for _, m := range metrics {
		out.Spec.Metrics = append(out.Spec.Metrics, metricFromV1(m))
	}
	if p := h.Spec.TargetCPUUtilizationPercentage; p != nil {
		out.Spec.Metrics = append(out.Spec.Metrics, cpuMetric(*p))
	}
	if len(out.Spec.Metrics) == 0 {
		out.Spec.Metrics = []autoscalingv2.MetricSpec{cpuMetric(defaultCPU)}
	}
	// The annotation says more than the field, and counts where there are both.
	var currents []autoscalingv1.MetricStatus
	if read(currentAnnotation, &currents) {
		for _, m := range currents {
			out.Status.CurrentMetrics = append(out.Status.CurrentMetrics, statusFromV1(m))
		}
	} else if p := h.Status.CurrentCPUUtilizationPercentage; p != nil {
		out.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricStatus{
				Name: "cpu", Current: autoscalingv2.MetricValueStatus{AverageUtilization: p},
			},
		}}
	}
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	read(conditionsAnnotation, &conditions)
	for _, c := range conditions {
		out.Status.Conditions = append(out.Status.Conditions, autoscalingv2.HorizontalPodAutoscalerCondition{
			Type: autoscalingv2.HorizontalPodAutoscalerConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	var behavior autoscalingv2.HorizontalPodAutoscalerBehavior
	if read(behaviorAnnotation, &behavior) && behavior != (autoscalingv2.HorizontalPodAutoscalerBehavior{}) {
		out.Spec.Behavior = &behavior
	}
	dropRoundTrip(&out.ObjectMeta)
	return out, nil
}

// dropRoundTrip removes the annotations that only carry fields between versions.
func dropRoundTrip(meta *metav1.ObjectMeta) {
	if meta.Annotations == nil {
		return
	}
	for _, key := range []string{
		metricsAnnotation, currentAnnotation,
		conditionsAnnotation, behaviorAnnotation,
	} {
		delete(meta.Annotations, key)
	}
	if len(meta.Annotations) == 0 {
		meta.Annotations = nil
	}
}
