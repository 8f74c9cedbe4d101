// Package priority resolves the priority class of pods, and keeps one default class.
package priority

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	schedulinglisters "k8s.io/client-go/listers/scheduling/v1"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
)

// Name of the plugin.
const Name = "Priority"

const nodeCritical, clusterCritical = "system-node-critical", "system-cluster-critical"

// Plugin resolves classes.
type Plugin struct {
	client  kubernetes.Interface
	classes schedulinglisters.PriorityClassLister
}

// New makes the plugin.
func New(client kubernetes.Interface, classes schedulinglisters.PriorityClassLister) *Plugin {
	return &Plugin{client: client, classes: classes}
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations, updates and deletions.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update || op == admission.Delete
}

// Admit resolves a pod's class.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") || a.Operation == admission.Delete {
		return nil
	}
	if a.Operation == admission.Update {
		if old, ok := a.OldObject.(*v1.Pod); ok {
			if pod.Spec.Priority == nil && old.Spec.Priority != nil {
				pod.Spec.Priority = ptr.To(*old.Spec.Priority)
			}
			if pod.Spec.PreemptionPolicy == nil && old.Spec.PreemptionPolicy != nil {
				pod.Spec.PreemptionPolicy = ptr.To(*old.Spec.PreemptionPolicy)
			}
		}
		return nil
	}
	value, policy := int32(0), v1.PreemptLowerPriority
	if name := pod.Spec.PriorityClassName; name == "" {
		c, err := p.global()
		if err != nil {
			return fmt.Errorf("failed to get default priority class: %w", err)
		}
		if c != nil {
			pod.Spec.PriorityClassName, value, policy = c.Name, c.Value, ptr.Deref(c.PreemptionPolicy, policy)
		}
	} else {
		c, err := lookup.Get(ctx, name, p.classes.Get, p.client.SchedulingV1().PriorityClasses().Get)
		if apierrors.IsNotFound(err) {
			return admission.Forbidden(a, fmt.Errorf("no PriorityClass with name %v was found", name))
		}
		if err != nil {
			return fmt.Errorf("failed to get PriorityClass with name %s: %w", name, err)
		}
		value, policy = c.Value, ptr.Deref(c.PreemptionPolicy, policy)
	}
	if own := pod.Spec.Priority; own != nil && *own != value {
		return admission.Forbidden(a, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *own, value))
	}
	if own := pod.Spec.PreemptionPolicy; own != nil && *own != policy {
		return admission.Forbidden(a, fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *own, policy))
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &policy
	return nil
}

// global is the default class, of several the one with the lowest value.
func (p *Plugin) global() (*schedulingv1.PriorityClass, error) {
	all, err := p.classes.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var best *schedulingv1.PriorityClass
	for _, c := range all {
		if c.GlobalDefault && (best == nil || c.Value < best.Value) {
			best = c
		}
	}
	return best, nil
}

// Validate refuses a second default class, and that the system's own go: parts of
// the cluster name them.
func (p *Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	if a.Operation == admission.Delete {
		if a.Is(schedulingv1.GroupName, "priorityclasses") && (a.Name == nodeCritical || a.Name == clusterCritical) {
			return admission.Forbidden(a, errors.New("this is a system priority class and cannot be deleted"))
		}
		return nil
	}
	c, ok := a.Object.(*schedulingv1.PriorityClass)
	if !ok || a.Subresource != "" || !c.GlobalDefault {
		return nil
	}
	best, err := p.global()
	if err != nil {
		return errors.Join(errors.New("failed to get default priority class"), err)
	}
	if best != nil && best.Name != c.Name {
		return admission.Forbidden(a, fmt.Errorf("PriorityClass %v is already marked as default. Only one default can exist", best.Name))
	}
	return nil
}
