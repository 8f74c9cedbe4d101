// Package imagelocality prefers nodes that have the pod's images.
package imagelocality

import (
	"context"
	"strings"

	v1 "k8s.io/api/core/v1"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "ImageLocality"

const (
	mb                    int64 = 1024 * 1024
	minThreshold                = 23 * mb
	maxContainerThreshold       = 1000 * mb
)

// Plugin scores by image size and spread.
type Plugin struct{ handle framework.Handle }

// New makes the plugin.
func New(_ any, h framework.Handle) (framework.Plugin, error) { return &Plugin{handle: h}, nil }

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// Score adds up the sizes of the images present, each scaled by the share of
// nodes that have it, so that one node with an image does not draw all pods.
func (p *Plugin) Score(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	total := int64(len(p.handle.Snapshot().Nodes()))
	var sum int64
	var images int64
	add := func(image string) {
		images++
		if s, ok := node.ImageStates[normalName(image)]; ok && total > 0 {
			sum += int64(float64(s.Size) * (float64(s.NumNodes) / float64(total)))
		}
	}
	for i := range pod.Pod.Spec.InitContainers {
		add(pod.Pod.Spec.InitContainers[i].Image)
	}
	for i := range pod.Pod.Spec.Containers {
		add(pod.Pod.Spec.Containers[i].Image)
	}
	for i := range pod.Pod.Spec.Volumes {
		if img := pod.Pod.Spec.Volumes[i].Image; img != nil && img.PullPolicy != v1.PullAlways {
			add(img.Reference)
		}
	}
	return scale(sum, images), nil
}

func scale(sum, images int64) int64 {
	maxThreshold := maxContainerThreshold * images
	if maxThreshold <= minThreshold {
		return 0
	}
	return framework.MaxNodeScore * (min(max(sum, minThreshold), maxThreshold) - minThreshold) / (maxThreshold - minThreshold)
}

// normalName adds the tag that an untagged name stands for.
func normalName(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		name += ":latest"
	}
	return name
}
