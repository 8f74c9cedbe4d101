// Package podnodeselector holds the pods of a namespace to nodes: those that an
// annotation of the namespace selects, or that the cluster does by default.
package podnodeselector

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
)

// Name of the plugin.
const Name = "PodNodeSelector"

// annotation of a namespace is its selector.
const annotation = "scheduler.alpha.kubernetes.io/node-selector"

// clusterDefault is the name under which the configuration has the selector of
// namespaces without one; the others are namespaces, with what their pods may select.
const clusterDefault = "clusterDefaultNodeSelector"

// Plugin merges selectors.
type Plugin struct {
	client     kubernetes.Interface
	namespaces corelisters.NamespaceLister
	selectors  map[string]labels.Set
}

// New makes the plugin from its configuration, which may be empty.
func New(config []byte, client kubernetes.Interface, namespaces corelisters.NamespaceLister) (*Plugin, error) {
	var c struct {
		Selectors map[string]string `json:"podNodeSelectorPluginConfig"`
	}
	if err := yaml.UnmarshalStrict(config, &c); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	p := &Plugin{client: client, namespaces: namespaces, selectors: map[string]labels.Set{}}
	for name, text := range c.Selectors {
		set, err := labels.ConvertSelectorToLabelsMap(text)
		if err != nil {
			return nil, fmt.Errorf("podNodeSelectorPluginConfig.%s %q: %w", name, text, err)
		}
		p.selectors[name] = set
	}
	return p, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations.
func (*Plugin) Handles(op admission.Operation) bool { return op == admission.Create }

// Admit adds the namespace's selector to the pod's.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") {
		return nil
	}
	wanted, err := p.fitting(ctx, a, pod)
	if err != nil {
		return err
	}
	if merged := labels.Merge(wanted, pod.Spec.NodeSelector); len(merged) > 0 {
		pod.Spec.NodeSelector = merged
	}
	return p.Validate(ctx, a)
}

// Validate refuses a pod that selects what its namespace may not.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") {
		return nil
	}
	if _, err := p.fitting(ctx, a, pod); err != nil {
		return err
	}
	allowed := p.selectors[a.Namespace]
	for key, value := range pod.Spec.NodeSelector {
		if len(allowed) > 0 && (!allowed.Has(key) || allowed[key] != value) {
			return admission.Forbidden(a, errors.New("pod node label selector labels conflict with its namespace whitelist"))
		}
	}
	return nil
}

// fitting is the namespace's selector, with which the pod's must agree.
func (p *Plugin) fitting(ctx context.Context, a *admission.Attributes, pod *v1.Pod) (labels.Set, error) {
	ns, err := lookup.Get(ctx, a.Namespace, p.namespaces.Get, p.client.CoreV1().Namespaces().Get)
	if err != nil {
		return nil, err
	}
	wanted := p.selectors[clusterDefault]
	if text, ok := ns.Annotations[annotation]; ok {
		if wanted, err = labels.ConvertSelectorToLabelsMap(text); err != nil {
			return nil, err
		}
	}
	if labels.Conflicts(wanted, pod.Spec.NodeSelector) {
		return nil, admission.Forbidden(a, errors.New("pod node label selector conflicts with its namespace node label selector"))
	}
	return wanted, nil
}
