package podstate

import (
	"encoding/json"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

// Annotation keys that a kubelet puts on the containers and sandboxes that it
// creates. They survive a restart of the kubelet and are all that it needs to
// recognise, restart or end a container it did not start itself.
const (
	AnnotationHash                     = "io.kubernetes.container.hash"
	AnnotationRestartCount             = "io.kubernetes.container.restartCount"
	AnnotationTerminationMessagePath   = "io.kubernetes.container.terminationMessagePath"
	AnnotationTerminationMessagePolicy = "io.kubernetes.container.terminationMessagePolicy"
	AnnotationPreStopHandler           = "io.kubernetes.container.preStopHandler"
	AnnotationPorts                    = "io.kubernetes.container.ports"
	AnnotationDeletionGracePeriod      = "io.kubernetes.pod.deletionGracePeriod"
	AnnotationTerminationGracePeriod   = "io.kubernetes.pod.terminationGracePeriod"
)

// PodLabels are the labels of a pod's sandbox.
func PodLabels(pod *v1.Pod) map[string]string {
	labels := make(map[string]string, len(pod.Labels)+3)
	for k, v := range pod.Labels {
		labels[k] = v
	}
	labels[kubelettypes.KubernetesPodNameLabel] = pod.Name
	labels[kubelettypes.KubernetesPodNamespaceLabel] = pod.Namespace
	labels[kubelettypes.KubernetesPodUIDLabel] = string(pod.UID)
	return labels
}

// ContainerLabels are the labels of one of the pod's containers.
func ContainerLabels(pod *v1.Pod, container string) map[string]string {
	return map[string]string{
		kubelettypes.KubernetesPodNameLabel:       pod.Name,
		kubelettypes.KubernetesPodNamespaceLabel:  pod.Namespace,
		kubelettypes.KubernetesPodUIDLabel:        string(pod.UID),
		kubelettypes.KubernetesContainerNameLabel: container,
	}
}

// ContainerAnnotations are the annotations of one of the pod's containers.
func ContainerAnnotations(pod *v1.Pod, c *v1.Container, hash string, restartCount int) map[string]string {
	a := map[string]string{
		AnnotationHash:                     hash,
		AnnotationRestartCount:             strconv.Itoa(restartCount),
		AnnotationTerminationMessagePath:   c.TerminationMessagePath,
		AnnotationTerminationMessagePolicy: string(c.TerminationMessagePolicy),
	}
	if pod.DeletionGracePeriodSeconds != nil {
		a[AnnotationDeletionGracePeriod] = strconv.FormatInt(*pod.DeletionGracePeriodSeconds, 10)
	}
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		a[AnnotationTerminationGracePeriod] = strconv.FormatInt(*pod.Spec.TerminationGracePeriodSeconds, 10)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		if b, err := json.Marshal(c.Lifecycle.PreStop); err == nil {
			a[AnnotationPreStopHandler] = string(b)
		}
	}
	if len(c.Ports) > 0 {
		if b, err := json.Marshal(c.Ports); err == nil {
			a[AnnotationPorts] = string(b)
		}
	}
	return a
}

// RestoredPod rebuilds the part of a pod that is needed to end its containers
// when the API object is gone: names, grace period, preStop hooks and ports.
func RestoredPod(state *Pod) *v1.Pod {
	pod := &v1.Pod{}
	pod.UID, pod.Namespace, pod.Name = state.UID, state.Namespace, state.Name
	seen := map[string]bool{}
	for i := range state.Containers {
		c := &state.Containers[i]
		if seen[c.Name] {
			continue
		}
		seen[c.Name] = true
		spec := v1.Container{Name: c.Name, Image: c.Image}
		spec.TerminationMessagePath = c.Annotations[AnnotationTerminationMessagePath]
		spec.TerminationMessagePolicy = v1.TerminationMessagePolicy(c.Annotations[AnnotationTerminationMessagePolicy])
		if raw, ok := c.Annotations[AnnotationPreStopHandler]; ok {
			handler := &v1.LifecycleHandler{}
			if json.Unmarshal([]byte(raw), handler) == nil {
				spec.Lifecycle = &v1.Lifecycle{PreStop: handler}
			}
		}
		if raw, ok := c.Annotations[AnnotationPorts]; ok {
			_ = json.Unmarshal([]byte(raw), &spec.Ports)
		}
		if n, err := strconv.ParseInt(c.Annotations[AnnotationTerminationGracePeriod], 10, 64); err == nil {
			pod.Spec.TerminationGracePeriodSeconds = &n
		}
		if n, err := strconv.ParseInt(c.Annotations[AnnotationDeletionGracePeriod], 10, 64); err == nil {
			pod.DeletionGracePeriodSeconds = &n
		}
		pod.Spec.Containers = append(pod.Spec.Containers, spec)
	}
	return pod
}

func uidOf(labels map[string]string) types.UID {
	return types.UID(kubelettypes.GetPodUID(labels))
}

func atNanos(n int64) time.Time {
	if n <= 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
