// Package podtolerationrestriction gives pods the tolerations of their namespace,
// and holds them to those that it allows.
package podtolerationrestriction

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
	"skiff/apiserver/resources/podspec"
)

// Name of the plugin.
const Name = "PodTolerationRestriction"

// The annotations of namespaces.
const (
	defaultsAnnotation = "scheduler.alpha.kubernetes.io/defaultTolerations"
	allowedAnnotation  = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
)

// Plugin merges tolerations.
type Plugin struct {
	client            kubernetes.Interface
	namespaces        corelisters.NamespaceLister
	defaults, allowed []v1.Toleration
}

// New makes the plugin from its configuration, which may be empty.
func New(config []byte, client kubernetes.Interface, namespaces corelisters.NamespaceLister) (*Plugin, error) {
	var c struct {
		Kind       string          `json:"kind"`
		APIVersion string          `json:"apiVersion"`
		Default    []v1.Toleration `json:"default"`
		Whitelist  []v1.Toleration `json:"whitelist"`
	}
	if err := yaml.UnmarshalStrict(config, &c); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return &Plugin{client: client, namespaces: namespaces, defaults: c.Default, allowed: c.Whitelist}, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations and updates.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Admit adds the namespace's tolerations to a new pod's. Pods that ask for
// resources tolerate a node that is short of memory.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") {
		return nil
	}
	var extra []v1.Toleration
	if a.Operation == admission.Create {
		var err error
		if extra, err = p.listed(ctx, a, defaultsAnnotation, p.defaults); err != nil {
			return err
		}
	}
	if podspec.QOSClass(pod) != v1.PodQOSBestEffort {
		extra = append(extra, v1.Toleration{Key: v1.TaintNodeMemoryPressure, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule})
	}
	if len(extra) > 0 {
		pod.Spec.Tolerations = merge(pod.Spec.Tolerations, extra)
	}
	return p.Validate(ctx, a)
}

// Validate refuses tolerations that the namespace does not allow.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	pod, ok := a.Object.(*v1.Pod)
	if !ok || !a.Is("", "pods") || len(pod.Spec.Tolerations) == 0 {
		return nil
	}
	allowed, err := p.listed(ctx, a, allowedAnnotation, p.allowed)
	if err != nil {
		return err
	}
	for _, t := range pod.Spec.Tolerations {
		if len(allowed) > 0 && !covered(t, allowed) {
			return errors.New("pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist")
		}
	}
	return nil
}

// listed are the tolerations of an annotation of the namespace, or the cluster's.
func (p *Plugin) listed(ctx context.Context, a *admission.Attributes, annotation string, cluster []v1.Toleration) ([]v1.Toleration, error) {
	ns, err := lookup.Get(ctx, a.Namespace, p.namespaces.Get, p.client.CoreV1().Namespaces().Get)
	if err != nil {
		return nil, err
	}
	text, ok := ns.Annotations[annotation]
	if !ok {
		return append([]v1.Toleration(nil), cluster...), nil
	}
	list := []v1.Toleration{}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func covered(t v1.Toleration, by []v1.Toleration) bool {
	for _, b := range by {
		if covers(b, t) {
			return true
		}
	}
	return false
}
