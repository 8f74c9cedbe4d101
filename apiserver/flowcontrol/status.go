package flowcontrol

import (
	"context"
	"fmt"
	"slices"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applyflowcontrolv1 "k8s.io/client-go/applyconfigurations/flowcontrol/v1"
)

// statusManager is upstream's name for who writes the status.
const statusManager = "api-priority-and-fairness-config-consumer-v1"

// writeStatus tells which schemas name a level that does not exist. Another
// server may write the same; a lost write is made at the next change.
func (c *Controller) writeStatus(ctx context.Context) {
	if c.cfg.Client == nil {
		return
	}
	c.mu.Lock()
	schemas := slices.Clone(c.order)
	known := map[string]bool{}
	for name := range c.known {
		known[name] = true
	}
	c.mu.Unlock()
	for _, s := range schemas {
		want := dangling(s, known[s.Spec.PriorityLevelConfiguration.Name])
		i := slices.IndexFunc(s.Status.Conditions, func(x flowcontrolv1.FlowSchemaCondition) bool { return x.Type == want.Type })
		if i >= 0 && s.Status.Conditions[i].Status == want.Status {
			continue
		}
		condition := applyflowcontrolv1.FlowSchemaCondition().WithType(want.Type).WithStatus(want.Status).
			WithLastTransitionTime(want.LastTransitionTime).WithReason(want.Reason).WithMessage(want.Message)
		status := applyflowcontrolv1.FlowSchema(s.Name).WithStatus(applyflowcontrolv1.FlowSchemaStatus().WithConditions(condition))
		if _, err := c.cfg.Client.FlowcontrolV1().FlowSchemas().ApplyStatus(ctx, status, metav1.ApplyOptions{FieldManager: statusManager, Force: true}); err != nil && ctx.Err() != nil {
			return
		}
	}
}

func dangling(s *flowcontrolv1.FlowSchema, exists bool) flowcontrolv1.FlowSchemaCondition {
	name := s.Spec.PriorityLevelConfiguration.Name
	c := flowcontrolv1.FlowSchemaCondition{
		Type: flowcontrolv1.FlowSchemaConditionDangling, Status: flowcontrolv1.ConditionFalse, LastTransitionTime: metav1.Now(), Reason: "Found",
		Message: fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", name),
	}
	if !exists {
		c.Status, c.Reason = flowcontrolv1.ConditionTrue, "NotFound"
		c.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", name)
	}
	return c
}
