// Package alwayspullimages makes every container pull its image, so that a
// private image is used only by those who may pull it.
package alwayspullimages

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "AlwaysPullImages"

// Plugin sets the pull policy.
type Plugin struct{}

// New makes the plugin.
func New() Plugin { return Plugin{} }

// Name is upstream's.
func (Plugin) Name() string { return Name }

// Handles creations and updates.
func (Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Admit sets the policies of containers and of images in volumes to Always.
func (Plugin) Admit(_ context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") {
		return nil
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			list[i].ImagePullPolicy = v1.PullAlways
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		pod.Spec.EphemeralContainers[i].ImagePullPolicy = v1.PullAlways
	}
	for i := range pod.Spec.Volumes {
		if image := pod.Spec.Volumes[i].Image; image != nil {
			image.PullPolicy = v1.PullAlways
		}
	}
	return nil
}
