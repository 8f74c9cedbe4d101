// Package persistentvolumeclaimresize lets claims grow only where the class allows it.
package persistentvolumeclaimresize

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "PersistentVolumeClaimResize"

// Plugin checks growth.
type Plugin struct {
	classes storagelisters.StorageClassLister
}

// New makes the plugin.
func New(classes storagelisters.StorageClassLister) *Plugin { return &Plugin{classes: classes} }

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles updates.
func (*Plugin) Handles(op admission.Operation) bool { return op == admission.Update }

// Validate refuses growth of an unbound claim, or where the class does not allow it.
func (p *Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	c, ok := a.Object.(*v1.PersistentVolumeClaim)
	old, was := a.OldObject.(*v1.PersistentVolumeClaim)
	if !ok || !was || !a.Is("", "persistentvolumeclaims") {
		return nil
	}
	before, after := old.Spec.Resources.Requests[v1.ResourceStorage], c.Spec.Resources.Requests[v1.ResourceStorage]
	if after.Cmp(before) <= 0 {
		return nil
	}
	if old.Status.Phase != v1.ClaimBound {
		return admission.Forbidden(a, errors.New("Only bound persistent volume claims can be expanded")) //nolint:staticcheck // the text is Kubernetes'
	}
	for _, o := range []*v1.PersistentVolumeClaim{c, old} {
		if name := volume.GetPersistentVolumeClaimClass(o); name != "" {
			if class, err := p.classes.Get(name); err == nil && ptr.Deref(class.AllowVolumeExpansion, false) {
				continue
			}
		}
		return admission.Forbidden(a, errors.New("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
	}
	return nil
}
