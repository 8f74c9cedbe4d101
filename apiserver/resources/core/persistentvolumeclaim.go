package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type pvcStrategy = resources.TypedStrategy[corev1.PersistentVolumeClaim, *corev1.PersistentVolumeClaim]

func persistentVolumeClaims() resources.Resource {
	r := namespaced("PersistentVolumeClaim", "persistentvolumeclaims", "pvc")
	r.Versions = v1(func() runtime.Object { return &corev1.PersistentVolumeClaimList{} }, pvcDefaults)
	r.Columns = table.Columns(table.Name(), table.Text("Status", "The claim's phase."),
		table.Text("Volume", "The volume that the claim is bound to."), table.Text("Capacity", "The volume's size."),
		table.Text("Access Modes", "How the volume can be mounted."), table.Text("StorageClass", "The claim's storage class."),
		table.Text("VolumeAttributesClass", "The claim's attributes class."), table.Age(),
		table.Wide(table.Text("VolumeMode", "Whether the volume is a file system or a block device.")))
	return resources.Declare(resources.Spec[corev1.PersistentVolumeClaim, *corev1.PersistentVolumeClaim]{
		Resource: r,
		Strategy: pvcStrategy{
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			Validate:                 validatePVC, ValidateUpdate: validatePVCUpdate,
			Warnings: func(_ context.Context, c, _ *corev1.PersistentVolumeClaim) []string {
				return podspec.ClaimWarnings(&c.Spec, specPath)
			},
			PrepareForCreate: func(_ context.Context, c *corev1.PersistentVolumeClaim) {
				c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
				dropUnknownSources(&c.Spec, nil)
				syncDataSource(&c.Spec)
			},
			PrepareForUpdate: func(_ context.Context, c, old *corev1.PersistentVolumeClaim) {
				c.Status = old.Status
				dropUnknownSources(&c.Spec, &old.Spec)
				// A source that was stored before its newer field existed stays.
				if old.Spec.DataSource == nil || old.Spec.DataSourceRef != nil {
					syncDataSource(&c.Spec)
				}
			},
			ResetFields: []string{"status"},
		},
		Views: map[string]pvcStrategy{"status": {
			AllowUnconditionalUpdate: true,
			PrepareForUpdate: func(_ context.Context, c, old *corev1.PersistentVolumeClaim) {
				c.Spec = old.Spec
				// Of a feature that is off.
				if old.Status.HealthStatus == nil {
					c.Status.HealthStatus = nil
				}
			},
			ValidateUpdate: validatePVCStatusUpdate,
			ResetFields:    []string{"spec"},
		}},
		SelectableFields: map[string]func(*corev1.PersistentVolumeClaim) string{
			"name": func(c *corev1.PersistentVolumeClaim) string { return c.Name },
		},
		Row: pvcRow,
	})
}

// dropUnknownSources leaves out what the older field cannot say: it takes claims and
// snapshots, and anything else belongs into the newer one. A reference into another
// namespace is an alpha feature, and off. What a claim has already stays, and so does
// a source that is told both ways, to be compared; old is nil for a new claim.
func dropUnknownSources(spec, old *corev1.PersistentVolumeClaimSpec) {
	if ref := spec.DataSourceRef; ref != nil && ptr.Deref(ref.Namespace, "") != "" && (old == nil || old.DataSourceRef == nil) {
		spec.DataSourceRef = nil
	}
	stored := old != nil && (old.DataSource != nil || old.DataSourceRef != nil)
	if d := spec.DataSource; d != nil && !stored && spec.DataSourceRef == nil {
		group := ptr.Deref(d.APIGroup, "")
		claim := group == "" && d.Kind == "PersistentVolumeClaim"
		if snapshot := group == "snapshot.storage.k8s.io" && d.Kind == "VolumeSnapshot"; !claim && !snapshot {
			spec.DataSource = nil
		}
	}
}

// syncDataSource fills whichever of dataSource and dataSourceRef is missing
// from the other. A reference into another namespace has no older form.
func syncDataSource(spec *corev1.PersistentVolumeClaimSpec) {
	if ref := spec.DataSourceRef; ref != nil && ptr.Deref(ref.Namespace, "") != "" {
		return
	}
	switch {
	case spec.DataSource != nil && spec.DataSourceRef == nil:
		spec.DataSourceRef = &corev1.TypedObjectReference{
			APIGroup: spec.DataSource.APIGroup, Kind: spec.DataSource.Kind, Name: spec.DataSource.Name,
		}
	case spec.DataSource == nil && spec.DataSourceRef != nil:
		ref := spec.DataSourceRef
		spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	}
}

func pvcDefaults(c *corev1.PersistentVolumeClaim) {
	if c.Status.Phase == "" {
		c.Status.Phase = corev1.ClaimPending
	}
	podspec.SetClaimSpecDefaults(&c.Spec)
	podspec.RoundResources(c.Status.Capacity)
}

func pvcRow(c *corev1.PersistentVolumeClaim) []any {
	phase := string(c.Status.Phase)
	if c.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	capacity, modes := "", ""
	if c.Spec.VolumeName != "" {
		modes = formatAccessModes(c.Status.AccessModes)
		size := c.Status.Capacity[corev1.ResourceStorage]
		capacity = size.String()
	}
	class := c.Annotations[corev1.BetaStorageClassAnnotation]
	if class == "" {
		class = ptr.Deref(c.Spec.StorageClassName, "")
	}
	return []any{
		c.Name, phase, c.Spec.VolumeName, capacity, modes, class,
		unset(c.Spec.VolumeAttributesClassName), table.Since(c.CreationTimestamp), unset(c.Spec.VolumeMode),
	}
}
