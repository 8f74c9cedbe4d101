// Package defaultstorageclass gives claims that name no class the default one.
package defaultstorageclass

import (
	"context"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/labels"
	storagelisters "k8s.io/client-go/listers/storage/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "DefaultStorageClass"

// The annotations that make a class the default.
const (
	isDefault     = "storageclass.kubernetes.io/is-default-class"
	isDefaultBeta = "storageclass.beta.kubernetes.io/is-default-class"
)

// Plugin sets the class.
type Plugin struct {
	classes storagelisters.StorageClassLister
}

// New makes the plugin.
func New(classes storagelisters.StorageClassLister) *Plugin { return &Plugin{classes: classes} }

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations.
func (*Plugin) Handles(op admission.Operation) bool { return op == admission.Create }

// Admit sets the newest default class, of equals the first by name.
func (p *Plugin) Admit(_ context.Context, a *admission.Attributes) error {
	c, ok := a.Object.(*v1.PersistentVolumeClaim)
	if !ok || !a.Is("", "persistentvolumeclaims") || c.Spec.StorageClassName != nil {
		return nil
	}
	if _, named := c.Annotations[v1.BetaStorageClassAnnotation]; named {
		return nil
	}
	all, err := p.classes.List(labels.Everything())
	if err != nil {
		return admission.Forbidden(a, err)
	}
	var best *storagev1.StorageClass
	for _, s := range all {
		if s.Annotations[isDefault] != "true" && s.Annotations[isDefaultBeta] != "true" {
			continue
		}
		if best == nil || best.CreationTimestamp.Before(&s.CreationTimestamp) ||
			(best.CreationTimestamp.Equal(&s.CreationTimestamp) && s.Name < best.Name) {
			best = s
		}
	}
	if best != nil {
		name := best.Name
		c.Spec.StorageClassName = &name
	}
	return nil
}
