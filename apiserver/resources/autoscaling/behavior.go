package autoscaling

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
)

// What the annotation of the first version holds has Go's names for its fields.
type (
	behaviorText struct {
		ScaleUp, ScaleDown *rulesText
	}
	rulesText struct {
		StabilizationWindowSeconds *int32
		SelectPolicy               *autoscalingv2.ScalingPolicySelect
		Policies                   []policyText
		Tolerance                  *apiresource.Quantity
	}
	policyText struct {
		Type          autoscalingv2.HPAScalingPolicyType
		Value         int32
		PeriodSeconds int32
	}
)

// behaviorToV1 is what the annotation is made of.
func behaviorToV1(b *autoscalingv2.HorizontalPodAutoscalerBehavior) *behaviorText {
	if b == nil {
		return nil
	}
	return &behaviorText{ScaleUp: rulesToV1(b.ScaleUp), ScaleDown: rulesToV1(b.ScaleDown)}
}

func rulesToV1(r *autoscalingv2.HPAScalingRules) *rulesText {
	if r == nil {
		return nil
	}
	out := &rulesText{StabilizationWindowSeconds: r.StabilizationWindowSeconds, SelectPolicy: r.SelectPolicy, Tolerance: r.Tolerance}
	for _, p := range r.Policies {
		out.Policies = append(out.Policies, policyText(p))
	}
	return out
}
