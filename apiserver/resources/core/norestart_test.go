package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// Which containers of a pod may run after they ended.
func TestNoRestart(t *testing.T) {
	rule := func(a corev1.ContainerRestartRuleAction) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{Action: a, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
	}
	ended := func(name string, code int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
	}
	plain := corev1.Container{Name: "a"}
	never := []string{"status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"}
	for _, tt := range []struct {
		name       string
		policy     corev1.RestartPolicy
		containers []corev1.Container
		was        corev1.ContainerStatus
		want       []string
	}{
		{name: "always", policy: corev1.RestartPolicyAlways, containers: []corev1.Container{plain}, was: ended("a", 0)},
		{name: "never", policy: corev1.RestartPolicyNever, containers: []corev1.Container{plain}, was: ended("a", 1), want: never},
		{name: "on failure after one", policy: corev1.RestartPolicyOnFailure, containers: []corev1.Container{plain}, was: ended("a", 1)},
		{name: "on failure after success", policy: corev1.RestartPolicyOnFailure, containers: []corev1.Container{plain}, was: ended("a", 0), want: never},
		{name: "a policy of its own", policy: corev1.RestartPolicyNever, containers: []corev1.Container{{Name: "a", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}}, was: ended("a", 1)},
		{name: "a rule of its own", policy: corev1.RestartPolicyNever, containers: []corev1.Container{{Name: "a", RestartPolicyRules: rule(corev1.ContainerRestartRuleActionRestart)}}, was: ended("a", 42)},
		{name: "another's rule", policy: corev1.RestartPolicyNever, containers: []corev1.Container{plain, {Name: "b", RestartPolicyRules: rule(corev1.ContainerRestartRuleActionRestart)}}, was: ended("a", 0), want: never},
		{name: "another's rule for all", policy: corev1.RestartPolicyNever, containers: []corev1.Container{plain, {Name: "b", RestartPolicyRules: rule(corev1.ContainerRestartRuleActionRestartAllContainers)}}, was: ended("a", 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			is := []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
			var got []string
			for _, err := range noRestart(&corev1.PodSpec{RestartPolicy: tt.policy, Containers: tt.containers}, is, []corev1.ContainerStatus{tt.was}, field.NewPath("status", "containerStatuses")) {
				got = append(got, err.Error())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}
