package autoscaling

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func texts(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

func TestStatusNumbersAreNotNegative(t *testing.T) {
	h := &hpa{Status: v2.HorizontalPodAutoscalerStatus{CurrentReplicas: -1, DesiredReplicas: -2,
		Conditions: []v2.HorizontalPodAutoscalerCondition{{}, {ObservedGeneration: ptr.To[int64](-3)}}}}
	want := []string{
		"status.conditions[1].observedGeneration: Invalid value: -3: must be greater than or equal to 0",
		"status.currentReplicas: Invalid value: -1: must be greater than or equal to 0",
		"status.desiredReplicas: Invalid value: -2: must be greater than or equal to 0",
	}
	if diff := cmp.Diff(want, texts(validateHPAStatusUpdate(t.Context(), h, h))); diff != "" {
		t.Error(diff)
	}
}
