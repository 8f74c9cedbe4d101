// Package defaultbinder writes the binding of a pod to its node.
package defaultbinder

import (
	"context"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "DefaultBinder"

// Plugin posts to pods/binding.
type Plugin struct{ handle framework.Handle }

// New makes the plugin.
func New(_ any, h framework.Handle) (framework.Plugin, error) { return &Plugin{handle: h}, nil }

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// Bind writes the binding; the UID guards against a pod of the same name.
func (p *Plugin) Bind(ctx context.Context, _ *framework.CycleState, pod *v1.Pod, node string) *framework.Status {
	b := &v1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     v1.ObjectReference{Kind: "Node", Name: node},
	}
	return framework.AsStatus(p.handle.Client().CoreV1().Pods(b.Namespace).Bind(ctx, b, metav1.CreateOptions{}))
}
