// Package defaultingressclass gives Ingresses that name no class the default one.
package defaultingressclass

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "DefaultIngressClass"

// legacyAnnotation named the class before the field existed.
const legacyAnnotation = "kubernetes.io/ingress.class"

// Plugin sets the class.
type Plugin struct {
	classes networkinglisters.IngressClassLister
}

// New makes the plugin.
func New(classes networkinglisters.IngressClassLister) *Plugin { return &Plugin{classes: classes} }

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations.
func (*Plugin) Handles(op admission.Operation) bool { return op == admission.Create }

// Admit sets the newest default class, of equals the first by name.
func (p *Plugin) Admit(_ context.Context, a *admission.Attributes) error {
	ing, ok := a.Object.(*networkingv1.Ingress)
	if !ok || !a.Is("networking.k8s.io", "ingresses") || ing.Spec.IngressClassName != nil || ing.Annotations[legacyAnnotation] != "" {
		return nil
	}
	all, err := p.classes.List(labels.Everything())
	if err != nil {
		return admission.Forbidden(a, err)
	}
	var best *networkingv1.IngressClass
	for _, c := range all {
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] != "true" {
			continue
		}
		if best == nil || best.CreationTimestamp.Before(&c.CreationTimestamp) ||
			(best.CreationTimestamp.Equal(&c.CreationTimestamp) && c.Name < best.Name) {
			best = c
		}
	}
	if best != nil {
		name := best.Name
		ing.Spec.IngressClassName = &name
	}
	return nil
}
