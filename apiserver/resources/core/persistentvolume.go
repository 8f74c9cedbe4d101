package core

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type pvStrategy = resources.TypedStrategy[corev1.PersistentVolume, *corev1.PersistentVolume]

func persistentVolumes() resources.Resource {
	r := clusterScoped("PersistentVolume", "persistentvolumes", "pv")
	r.Versions = v1(func() runtime.Object { return &corev1.PersistentVolumeList{} }, pvDefaults)
	r.Columns = table.Columns(table.Name(), table.Text("Capacity", "The volume's size."),
		table.Text("Access Modes", "How the volume can be mounted."),
		table.Text("Reclaim Policy", "What happens to the volume when its claim is gone."),
		table.Text("Status", "The volume's phase."), table.Text("Claim", "The claim that the volume is bound to."),
		table.Text("StorageClass", "The volume's storage class."),
		table.Text("VolumeAttributesClass", "The volume's attributes class."),
		table.Text("Reason", "Why the volume failed."), table.Age(),
		table.Wide(table.Text("VolumeMode", "Whether the volume is a file system or a block device.")))
	return resources.Declare(resources.Spec[corev1.PersistentVolume, *corev1.PersistentVolume]{
		Resource: r,
		Strategy: pvStrategy{
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			Validate:                 validatePV, ValidateUpdate: validatePVUpdate,
			Warnings: func(_ context.Context, pv, _ *corev1.PersistentVolume) []string { return podspec.VolumeWarnings(pv) },
			PrepareForCreate: func(_ context.Context, pv *corev1.PersistentVolume) {
				now := metav1.NewTime(time.Now())
				pv.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &now}
			},
			PrepareForUpdate: func(_ context.Context, pv, old *corev1.PersistentVolume) { pv.Status = old.Status },
			ResetFields:      []string{"status"},
		},
		Views: map[string]pvStrategy{"status": {
			AllowUnconditionalUpdate: true,
			PrepareForUpdate:         preparePVStatus,
			ResetFields:              []string{"spec"},
		}},
		SelectableFields: map[string]func(*corev1.PersistentVolume) string{
			"name": func(pv *corev1.PersistentVolume) string { return pv.Name },
		},
		Row: pvRow,
	})
}

// preparePVStatus also notes the moment of a change of phase, unless the writer does.
func preparePVStatus(_ context.Context, pv, old *corev1.PersistentVolume) {
	pv.Spec = old.Spec
	was, is := old.Status.LastPhaseTransitionTime, pv.Status.LastPhaseTransitionTime
	switch {
	case pv.Status.Phase != old.Status.Phase && (is == nil || is.Equal(was)):
		pv.Status.LastPhaseTransitionTime = ptr.To(metav1.NewTime(time.Now()))
	case is == nil:
		pv.Status.LastPhaseTransitionTime = was
	}
}

func pvDefaults(pv *corev1.PersistentVolume) {
	if pv.Status.Phase == "" {
		pv.Status.Phase = corev1.VolumePending
	}
	if pv.Spec.PersistentVolumeReclaimPolicy == "" {
		pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	}
	if pv.Spec.VolumeMode == nil {
		pv.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	}
	podspec.RoundResources(pv.Spec.Capacity)
	podspec.SetHostPathDefaults(pv.Spec.HostPath)
	podspec.SetAzureDiskDefaults(pv.Spec.AzureDisk)
	if s := pv.Spec.ISCSI; s != nil && s.ISCSIInterface == "" {
		s.ISCSIInterface = "default"
	}
	if s := pv.Spec.RBD; s != nil {
		podspec.SetRBDDefaults(&s.RBDPool, &s.RadosUser, &s.Keyring)
	}
	if s := pv.Spec.ScaleIO; s != nil {
		podspec.SetScaleIODefaults(&s.StorageMode, &s.FSType)
	}
}

func pvRow(pv *corev1.PersistentVolume) []any {
	claim := ""
	if ref := pv.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	phase := string(pv.Status.Phase)
	if pv.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	size := pv.Spec.Capacity[corev1.ResourceStorage]
	class := pv.Annotations[corev1.BetaStorageClassAnnotation]
	if class == "" {
		class = pv.Spec.StorageClassName
	}
	return []any{
		pv.Name, size.String(), formatAccessModes(pv.Spec.AccessModes), string(pv.Spec.PersistentVolumeReclaimPolicy),
		phase, claim, class, unset(pv.Spec.VolumeAttributesClassName), pv.Status.Reason, table.Since(pv.CreationTimestamp),
		unset(pv.Spec.VolumeMode),
	}
}

func unset[S ~string](s *S) string {
	if s == nil {
		return "<unset>"
	}
	return string(*s)
}

// formatAccessModes shows the modes, each once, in their customary short form.
func formatAccessModes(modes []corev1.PersistentVolumeAccessMode) string {
	short := []struct {
		mode corev1.PersistentVolumeAccessMode
		name string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"},
		{corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	}
	var names []string
	for _, s := range short {
		for _, m := range modes {
			if m == s.mode {
				names = append(names, s.name)
				break
			}
		}
	}
	return strings.Join(names, ",")
}
