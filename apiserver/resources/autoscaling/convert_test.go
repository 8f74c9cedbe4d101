package autoscaling

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/utils/ptr"
)

func cpuStatus(current autoscalingv2.MetricValueStatus) autoscalingv2.MetricStatus {
	return autoscalingv2.MetricStatus{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{Name: "cpu", Current: current}}
}

// TestAnnotationsOfTheFirstVersion: what it has no fields for.
func TestAnnotationsOfTheFirstVersion(t *testing.T) {
	cases := map[string]struct {
		spec   autoscalingv2.HorizontalPodAutoscalerSpec
		status autoscalingv2.HorizontalPodAutoscalerStatus
		want   map[string]string
	}{
		"nothing but a target of cpu": {spec: autoscalingv2.HorizontalPodAutoscalerSpec{Metrics: []autoscalingv2.MetricSpec{cpuMetric(50)}}},
		"the current cpu is told in full too": {
			status: autoscalingv2.HorizontalPodAutoscalerStatus{CurrentMetrics: []autoscalingv2.MetricStatus{cpuStatus(autoscalingv2.MetricValueStatus{AverageUtilization: ptr.To[int32](3)})}},
			want: map[string]string{
				currentAnnotation: `[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":3,"currentAverageValue":"0"}}]`,
			},
		},
		"a behavior has Go's names": {
			spec: autoscalingv2.HorizontalPodAutoscalerSpec{Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: &autoscalingv2.HPAScalingRules{
				Policies: []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15}},
			}}},
			want: map[string]string{
				behaviorAnnotation: `{"ScaleUp":{"StabilizationWindowSeconds":null,"SelectPolicy":null,"Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":null}`,
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			out, err := toV1(&hpa{Spec: c.spec, Status: c.status})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, out.(*autoscalingv1.HorizontalPodAutoscaler).Annotations); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestFromTheFirstVersion(t *testing.T) {
	pods := `[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"0"}}]`
	cpu := `[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":3,"currentAverageValue":"0"}}]`
	cases := map[string]struct {
		annotations map[string]string
		target      *int32
		current     *int32
		metrics     []string
		currents    []*int32
		behavior    *int32
	}{
		"no metric is the usual one":             {metrics: []string{"Resource"}},
		"cpu comes after the others":             {annotations: map[string]string{metricsAnnotation: pods}, target: ptr.To[int32](50), metrics: []string{"Pods", "Resource"}},
		"others alone":                           {annotations: map[string]string{metricsAnnotation: pods}, metrics: []string{"Pods"}},
		"a current cpu by itself":                {current: ptr.To[int32](7), metrics: []string{"Resource"}, currents: []*int32{ptr.To[int32](7)}},
		"the annotation counts before the field": {annotations: map[string]string{currentAnnotation: cpu}, current: ptr.To[int32](7), metrics: []string{"Resource"}, currents: []*int32{ptr.To[int32](3)}},
		"one that does not parse says nothing":   {annotations: map[string]string{currentAnnotation: "{"}, current: ptr.To[int32](7), metrics: []string{"Resource"}, currents: []*int32{ptr.To[int32](7)}},
		"a behavior in Go's names":               {annotations: map[string]string{behaviorAnnotation: `{"ScaleUp":{"StabilizationWindowSeconds":5}}`}, metrics: []string{"Resource"}, behavior: ptr.To[int32](5)},
		"a behavior in the API's names":          {annotations: map[string]string{behaviorAnnotation: `{"scaleUp":{"stabilizationWindowSeconds":5}}`}, metrics: []string{"Resource"}, behavior: ptr.To[int32](5)},
		"an empty behavior is none":              {annotations: map[string]string{behaviorAnnotation: `{}`}, metrics: []string{"Resource"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := &autoscalingv1.HorizontalPodAutoscaler{}
			in.Annotations = c.annotations
			in.Spec.TargetCPUUtilizationPercentage, in.Status.CurrentCPUUtilizationPercentage = c.target, c.current
			obj, err := fromV1(in)
			if err != nil {
				t.Fatal(err)
			}
			out := obj.(*hpa)
			var metrics []string
			for _, m := range out.Spec.Metrics {
				metrics = append(metrics, string(m.Type))
			}
			var currents []*int32
			for _, m := range out.Status.CurrentMetrics {
				currents = append(currents, m.Resource.Current.AverageUtilization)
			}
			var behavior *int32
			if b := out.Spec.Behavior; b != nil {
				behavior = b.ScaleUp.StabilizationWindowSeconds
			}
			if d := cmp.Diff([]any{c.metrics, c.currents, c.behavior}, []any{metrics, currents, behavior}); d != "" {
				t.Errorf("metrics, currents, behavior (-want +got):\n%s", d)
			}
			if len(out.Annotations) > 0 {
				t.Errorf("left: %v", out.Annotations)
			}
		})
	}
}
