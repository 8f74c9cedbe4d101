// Package prioritysort orders pods by priority, then by age in the queue.
package prioritysort

import (
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "PrioritySort"

// Plugin orders the queue.
type Plugin struct{}

// New makes the plugin.
func New(any, framework.Handle) (framework.Plugin, error) { return Plugin{}, nil }

// Name is the plugin's name.
func (Plugin) Name() string { return Name }

// Less puts higher priority first, and the one that waits longer among equals.
func (Plugin) Less(a, b *framework.QueuedPodInfo) bool {
	pa, pb := corev1helpers.PodPriority(a.Pod), corev1helpers.PodPriority(b.Pod)
	return pa > pb || (pa == pb && a.Timestamp.Before(b.Timestamp))
}
