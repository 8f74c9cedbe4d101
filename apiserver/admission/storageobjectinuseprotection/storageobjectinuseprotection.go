// Package storageobjectinuseprotection puts the finalizers on volumes, their classes and
// claims that keep them while they are used.
package storageobjectinuseprotection

import (
	"context"
	"slices"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "StorageObjectInUseProtection"

// The finalizers.
const (
	ClaimFinalizer  = "kubernetes.io/pvc-protection"
	VolumeFinalizer = "kubernetes.io/pv-protection"
	ClassFinalizer  = "kubernetes.io/vac-protection"
)

// Plugin adds finalizers.
type Plugin struct{}

// New makes the plugin.
func New() Plugin { return Plugin{} }

// Name is upstream's.
func (Plugin) Name() string { return Name }

// Handles creations.
func (Plugin) Handles(op admission.Operation) bool { return op == admission.Create }

// Admit adds the finalizer.
func (Plugin) Admit(_ context.Context, a *admission.Attributes) error {
	switch obj := a.Object.(type) {
	case *v1.PersistentVolumeClaim:
		if a.Is("", "persistentvolumeclaims") {
			add(&obj.ObjectMeta, ClaimFinalizer)
		}
	case *v1.PersistentVolume:
		if a.Is("", "persistentvolumes") {
			add(&obj.ObjectMeta, VolumeFinalizer)
		}
	case *storagev1.VolumeAttributesClass:
		if a.Is(storagev1.GroupName, "volumeattributesclasses") {
			add(&obj.ObjectMeta, ClassFinalizer)
		}
	}
	return nil
}

func add(m *metav1.ObjectMeta, name string) {
	if !slices.Contains(m.Finalizers, name) {
		m.Finalizers = append(m.Finalizers, name)
	}
}
