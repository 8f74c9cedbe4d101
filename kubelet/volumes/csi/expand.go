package csi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	csispec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// growth decides whether the node has to grow the file system, or what is on
// the device, to the size of the persistent volume. have is the size that the
// node knows to have, 0 for unknown.
func growth(pvc *v1.PersistentVolumeClaim, pv *v1.PersistentVolume, have int64, readOnly bool) (size resource.Quantity, grow bool) {
	if pvc == nil || pv == nil || readOnly {
		return size, false
	}
	size = pv.Spec.Capacity[v1.ResourceStorage]
	if pvc.Status.AllocatedResourceStatuses[v1.ResourceStorage] == v1.PersistentVolumeClaimNodeResizeInfeasible {
		return size, false
	}
	told, ok := pvc.Status.Capacity[v1.ResourceStorage]
	return size, ok && size.Cmp(told) > 0 || have > 0 && size.Value() > have
}

func (w *work) grows(pub *publication) bool {
	w.mu.Lock()
	have := pub.size
	if have == 0 && w.request.PV != nil {
		// What the claim says not to have yet shows in its status.
		q := w.request.PV.Spec.Capacity[v1.ResourceStorage]
		pub.size = q.Value()
	}
	w.mu.Unlock()
	_, grow := growth(w.request.PVC, w.request.PV, have, w.readOnly)
	return grow
}

// expandVolume grows what the node has of the volume, when it has to, and says
// so in the claim's status. The caller has the volume's lock.
func (w *work) expandVolume(ctx context.Context, pub *publication) error {
	if w.request.PV == nil {
		return nil
	}
	w.mu.Lock()
	have := pub.size
	w.mu.Unlock()
	size, grow := growth(w.request.PVC, w.request.PV, have, w.readOnly)
	if grow && w.driver.features.expand {
		if err := w.callExpand(ctx, size); err != nil {
			return err
		}
	}
	w.mu.Lock()
	pub.size = size.Value()
	w.mu.Unlock()
	return nil
}

func (w *work) callExpand(ctx context.Context, size resource.Quantity) error {
	claim := w.request.PVC
	if told, ok := claim.Status.Capacity[v1.ResourceStorage]; ok && size.Cmp(told) > 0 {
		if _, tracked := claim.Status.AllocatedResourceStatuses[v1.ResourceStorage]; tracked {
			next := claim.DeepCopy()
			next.Status.AllocatedResourceStatuses[v1.ResourceStorage] = v1.PersistentVolumeClaimNodeResizeInProgress
			if err := w.patchClaim(ctx, claim, next); err != nil {
				return err
			}
			claim = next
		}
	}
	secrets, err := w.secrets(ctx, "NodeExpandSecretRef", w.target.expand)
	if err != nil {
		return err
	}
	staging := ""
	if w.driver.features.stage {
		staging, _ = w.layout.staging(w.key, w.spec, w.block)
	}
	_, err = call(ctx, func(ctx context.Context) (*csispec.NodeExpandVolumeResponse, error) {
		return w.driver.node().NodeExpandVolume(ctx, &csispec.NodeExpandVolumeRequest{
			VolumeId: w.handle, VolumePath: w.path(), StagingTargetPath: staging, Secrets: secrets,
			CapacityRange:    &csispec.CapacityRange{RequiredBytes: size.Value()},
			VolumeCapability: w.capability(w.driver.features, w.options, nil),
		})
	})
	if err != nil {
		return w.expandFailed(ctx, claim, size, err)
	}
	for _, object := range []v1.ObjectReference{w.ref(), claimRef(claim)} {
		w.cfg.Recorder.Eventf(&object, v1.EventTypeNormal, "FileSystemResizeSuccessful", "MountVolume.NodeExpandVolume succeeded for volume %q %s", w.spec, w.cfg.NodeName)
	}
	next := claim.DeepCopy()
	grown(next, size)
	return w.patchClaim(ctx, claim, next)
}

// expandFailed tells of a failure. A driver that cannot grow a volume in use
// has done so next time; one that never can is not asked again.
func (w *work) expandFailed(ctx context.Context, claim *v1.PersistentVolumeClaim, size resource.Quantity, failure error) error {
	if status.Code(failure) == codes.FailedPrecondition {
		return nil
	}
	object := claimRef(claim)
	w.cfg.Recorder.Eventf(&object, v1.EventTypeWarning, "VolumeResizeFailed", "NodeExpandVolume.NodeExpandVolume failed for volume %q requested read size %s: %v", w.spec, size.String(), failure)
	next := claim.DeepCopy()
	failedToGrow(next, failure, infeasible(failure))
	if err := w.patchClaim(ctx, claim, next); err != nil {
		return err
	}
	if infeasible(failure) {
		return nil
	}
	return failure
}

func (w *work) ref() v1.ObjectReference {
	return v1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: w.pod.Namespace, Name: w.pod.Name, UID: w.pod.UID}
}

func claimRef(c *v1.PersistentVolumeClaim) v1.ObjectReference {
	return v1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID}
}

// grown writes into a claim's status that the node has the new size.
func grown(c *v1.PersistentVolumeClaim, size resource.Quantity) {
	if c.Status.Capacity == nil {
		c.Status.Capacity = v1.ResourceList{}
	}
	if told := c.Status.Capacity[v1.ResourceStorage]; size.Cmp(told) > 0 {
		c.Status.Capacity[v1.ResourceStorage] = size
	}
	delete(c.Status.AllocatedResourceStatuses, v1.ResourceStorage)
	c.Status.Conditions = slices.DeleteFunc(c.Status.Conditions, func(c v1.PersistentVolumeClaimCondition) bool {
		switch c.Type {
		case v1.PersistentVolumeClaimFileSystemResizePending, v1.PersistentVolumeClaimResizing, v1.PersistentVolumeClaimNodeResizeError, v1.PersistentVolumeClaimControllerResizeError:
			return true
		}
		return false
	})
}

// failedToGrow writes into a claim's status that the node could not grow it.
func failedToGrow(c *v1.PersistentVolumeClaim, failure error, final bool) {
	if _, tracked := c.Status.AllocatedResourceStatuses[v1.ResourceStorage]; tracked && final {
		c.Status.AllocatedResourceStatuses[v1.ResourceStorage] = v1.PersistentVolumeClaimNodeResizeInfeasible
	}
	condition := v1.PersistentVolumeClaimCondition{
		Type: v1.PersistentVolumeClaimNodeResizeError, Status: v1.ConditionTrue, LastTransitionTime: metav1.Now(),
		Message: fmt.Sprintf("failed to expand pvc with %v", failure),
	}
	i := slices.IndexFunc(c.Status.Conditions, func(o v1.PersistentVolumeClaimCondition) bool { return o.Type == condition.Type })
	if i < 0 {
		c.Status.Conditions = append(c.Status.Conditions, condition)
		return
	}
	condition.LastTransitionTime = c.Status.Conditions[i].LastTransitionTime
	c.Status.Conditions[i] = condition
}

// patchClaim sends what changed in a claim's status, unless the claim has
// changed meanwhile.
func (w *work) patchClaim(ctx context.Context, old, next *v1.PersistentVolumeClaim) error {
	if equality.Semantic.DeepEqual(old.Status, next.Status) {
		return nil
	}
	plain := old.DeepCopy()
	plain.ResourceVersion = "" // so that the patch names the version it is for
	before, err := json.Marshal(plain)
	if err != nil {
		return err
	}
	after, err := json.Marshal(next)
	if err != nil {
		return err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, v1.PersistentVolumeClaim{})
	if err != nil {
		return err
	}
	got, err := w.cfg.Client.CoreV1().PersistentVolumeClaims(old.Namespace).Patch(ctx, old.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("update the status of claim %s/%s: %w", old.Namespace, old.Name, err)
	}
	*next = *got
	return nil
}
