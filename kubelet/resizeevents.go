package kubelet

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
)

// resizeSummary is what events about a resize tell, as JSON.
type resizeSummary struct {
	Resources      *v1.ResourceRequirements `json:"resources,omitempty"` // the pod's own
	InitContainers []resizeContainer        `json:"initContainers,omitempty"`
	Containers     []resizeContainer        `json:"containers,omitempty"`
	Generation     int64                    `json:"generation"`
	Error          string                   `json:"error,omitempty"`
}

type resizeContainer struct {
	Name      string                  `json:"name,omitempty"`
	Resources v1.ResourceRequirements `json:"resources,omitempty"`
}

// resizeMessage is the text of an event: what happened to a resize, the
// resources of the pod and of its containers, and what went wrong.
func resizeMessage(what string, pod *v1.Pod, generation int64, wrong string) string {
	s := resizeSummary{Resources: pod.Spec.Resources, Generation: generation, Error: wrong}
	for i := range pod.Spec.InitContainers {
		s.InitContainers = append(s.InitContainers, resizeContainer{pod.Spec.InitContainers[i].Name, pod.Spec.InitContainers[i].Resources})
	}
	for i := range pod.Spec.Containers {
		s.Containers = append(s.Containers, resizeContainer{pod.Spec.Containers[i].Name, pod.Spec.Containers[i].Resources})
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "Pod resize " + what
	}
	return fmt.Sprintf("Pod resize %s: %s", what, text)
}

// resizePending tells of a resize that the node has newly put off or refused.
func (k *Kubelet) resizePending(asked *v1.Pod, was, is *v1.PodCondition) {
	if is == nil || was != nil && was.Reason == is.Reason && was.Message == is.Message {
		return
	}
	event := "ResizeDeferred"
	if is.Reason == v1.PodReasonInfeasible {
		event = "ResizeInfeasible"
	}
	k.recorder.Event(asked, v1.EventTypeWarning, event, resizeMessage(is.Reason, asked, asked.Generation, is.Message))
}

// resizeDone tells of a resize that went wrong in a new way or that the
// containers now have, and returns the generation of one that goes on.
func (k *Kubelet) resizeDone(pod *v1.Pod, resizing int64, going bool, was, is error) int64 {
	if is != nil && (was == nil || was.Error() != is.Error()) {
		k.recorder.Event(pod, v1.EventTypeWarning, "ResizeError", resizeMessage("error", pod, pod.Generation, is.Error()))
	}
	switch {
	case going && resizing == 0:
		return pod.Generation
	case !going && resizing != 0:
		k.recorder.Event(pod, v1.EventTypeNormal, "ResizeCompleted", resizeMessage("completed", pod, resizing, ""))
		return 0
	}
	return resizing
}
