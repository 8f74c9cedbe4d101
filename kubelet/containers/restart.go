package containers

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/podstate"
)

// Hash identifies what of a container cannot change without a restart. It is
// kept in the container's annotations, so that a kubelet started anew knows
// whether a running container is still the one the pod asks for.
func Hash(c *v1.Container) string {
	b, err := json.Marshal(map[string]string{"image": c.Image, "name": c.Name})
	if err != nil {
		return ""
	}
	h := fnv.New32a()
	_, _ = h.Write(b)
	return fmt.Sprintf("%x", h.Sum32())
}

// IsSidecar reports whether an init container is restartable.
func IsSidecar(c *v1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// ShouldRestart reports whether a container whose newest instance is st may be
// (re)started, by its own policy and rules, else by the pod's policy.
func ShouldRestart(pod *v1.Pod, c *v1.Container, st *podstate.Container) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	if st == nil {
		return true
	}
	switch st.State {
	case podstate.Running:
		return false
	case podstate.Created, podstate.Unknown:
		return true
	}
	return restartAfter(pod, c, st.ExitCode)
}

// restartAfter decides by exit code.
func restartAfter(pod *v1.Pod, c *v1.Container, exitCode int32) bool {
	if rule := matchingRule(c, exitCode); rule != nil {
		return true
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = v1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case v1.RestartPolicyNever:
		return false
	case v1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return true
}

// restartAfterKill says whether a container that is killed for a failed probe
// comes back.
func restartAfterKill(pod *v1.Pod, c *v1.Container) bool {
	return restartAfter(pod, c, 137)
}

// matchingRule returns the first of the container's restart rules that the
// exit code satisfies.
func matchingRule(c *v1.Container, exitCode int32) *v1.ContainerRestartRule {
	for i := range c.RestartPolicyRules {
		rule := &c.RestartPolicyRules[i]
		if rule.ExitCodes == nil {
			continue
		}
		in := slices.Contains(rule.ExitCodes.Values, exitCode)
		if in == (rule.ExitCodes.Operator == v1.ContainerRestartRuleOnExitCodesOpIn) {
			return rule
		}
	}
	return nil
}

// restartEpoch is the moment since which all containers of the pod have to
// start anew: the last exit that a RestartAllContainers rule matched. Instances
// made before it count as absent. It is zero when there was none.
func restartEpoch(pod *v1.Pod, state *podstate.Pod) time.Time {
	var epoch time.Time
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if len(list[i].RestartPolicyRules) == 0 {
				continue
			}
			for _, st := range state.Instances(list[i].Name) {
				if st.State != podstate.Exited || !st.FinishedAt.After(epoch) {
					continue
				}
				if r := matchingRule(&list[i], st.ExitCode); r != nil && r.Action == v1.ContainerRestartRuleActionRestartAllContainers {
					epoch = st.FinishedAt
				}
			}
		}
	}
	return epoch
}
