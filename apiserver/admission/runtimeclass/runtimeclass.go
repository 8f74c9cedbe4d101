// Package runtimeclass gives pods the overhead and the placement of their runtime class.
package runtimeclass

import (
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	nodelisters "k8s.io/client-go/listers/node/v1"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
)

// Name of the plugin.
const Name = "RuntimeClass"

// Plugin applies classes.
type Plugin struct {
	client  kubernetes.Interface
	classes nodelisters.RuntimeClassLister
}

// New makes the plugin.
func New(client kubernetes.Interface, classes nodelisters.RuntimeClassLister) *Plugin {
	return &Plugin{client: client, classes: classes}
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations.
func (*Plugin) Handles(op admission.Operation) bool { return op == admission.Create }

func (p *Plugin) class(ctx context.Context, a *admission.Attributes) (*v1.Pod, *nodev1.RuntimeClass, error) {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") {
		return nil, nil, nil
	}
	if pod.Spec.RuntimeClassName == nil {
		return pod, nil, nil
	}
	name := *pod.Spec.RuntimeClassName
	c, err := lookup.Get(ctx, name, p.classes.Get, p.client.NodeV1().RuntimeClasses().Get)
	if apierrors.IsNotFound(err) {
		return nil, nil, admission.Forbidden(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", name))
	}
	return pod, c, err
}

// Admit sets the overhead, and merges node selector and tolerations.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	pod, c, err := p.class(ctx, a)
	if err != nil || pod == nil || c == nil {
		return err
	}
	if c.Overhead != nil {
		if len(pod.Spec.Overhead) > 0 && !equality.Semantic.DeepEqual(pod.Spec.Overhead, c.Overhead.PodFixed) {
			return admission.Forbidden(a, fmt.Errorf("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
		}
		pod.Spec.Overhead = c.Overhead.DeepCopy().PodFixed
	}
	if s := c.Scheduling; s != nil {
		if len(s.NodeSelector) > 0 && pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
		for _, k := range slices.Sorted(maps.Keys(s.NodeSelector)) {
			if v, ok := pod.Spec.NodeSelector[k]; ok && v != s.NodeSelector[k] {
				return admission.Forbidden(a, fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", k, s.NodeSelector[k], k, v))
			}
			pod.Spec.NodeSelector[k] = s.NodeSelector[k]
		}
		for _, t := range s.Tolerations {
			if !slices.ContainsFunc(pod.Spec.Tolerations, func(o v1.Toleration) bool { return equality.Semantic.DeepEqual(o, t) }) {
				pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
			}
		}
	}
	return nil
}

// Validate refuses an overhead that the class does not have.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, c, err := p.class(ctx, a)
	if err != nil || pod == nil {
		return err
	}
	switch {
	case c != nil && c.Overhead != nil:
		if !equality.Semantic.DeepEqual(c.Overhead.PodFixed, pod.Spec.Overhead) {
			return admission.Forbidden(a, fmt.Errorf("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
		}
	case len(pod.Spec.Overhead) > 0:
		return admission.Forbidden(a, fmt.Errorf("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
	}
	return nil
}
