package sidecar

import (
	"context"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// grow makes a volume as large as its claim wants it, and tells the node to do
// its part.
func (s *Sidecar) grow(ctx context.Context, v *v1.PersistentVolume) error {
	if v.Spec.ClaimRef == nil || v.Status.Phase != v1.VolumeBound {
		return nil
	}
	c, ok := s.claims.get(v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name)
	if !ok || c.UID != v.Spec.ClaimRef.UID {
		return nil // it went meanwhile
	}
	want, have, told := c.Spec.Resources.Requests[v1.ResourceStorage], v.Spec.Capacity[v1.ResourceStorage], c.Status.Capacity[v1.ResourceStorage]
	if told.IsZero() {
		return nil
	}
	claims := s.claims.in(c.Namespace)
	if want.Cmp(have) <= 0 && have.Cmp(told) <= 0 {
		return s.settled(ctx, c)
	}
	if want.Cmp(have) > 0 {
		next := c.DeepCopy()
		next.Status.AllocatedResources = v1.ResourceList{v1.ResourceStorage: want}
		next.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: v1.PersistentVolumeClaimControllerResizeInProgress}
		next.Status.Conditions = condition(v1.PersistentVolumeClaimResizing, "")
		var err error
		if c, err = claims.UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
			return err
		}
		got, err := s.cfg.Controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
			VolumeId: v.Spec.CSI.VolumeHandle, CapacityRange: &csi.CapacityRange{RequiredBytes: want.Value()},
			VolumeCapability: capability(v.Spec.VolumeMode, v.Spec.AccessModes, v.Spec.CSI.FSType),
		})
		if err != nil {
			return fmt.Errorf("grow %s: %w", v.Name, err)
		}
		bigger := v.DeepCopy()
		bigger.Spec.Capacity[v1.ResourceStorage] = *resource.NewQuantity(got.CapacityBytes, resource.BinarySI)
		if _, err := s.volumes.in("").Update(ctx, bigger, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	switch c.Status.AllocatedResourceStatuses[v1.ResourceStorage] {
	case v1.PersistentVolumeClaimNodeResizePending, v1.PersistentVolumeClaimNodeResizeInProgress, v1.PersistentVolumeClaimNodeResizeInfeasible:
		return nil
	}
	next := c.DeepCopy()
	next.Status.AllocatedResourceStatuses = map[v1.ResourceName]v1.ClaimResourceStatus{v1.ResourceStorage: v1.PersistentVolumeClaimNodeResizePending}
	next.Status.Conditions = condition(v1.PersistentVolumeClaimFileSystemResizePending, "Waiting for user to (re-)start a pod to finish file system resize of volume on node.")
	_, err := claims.UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

// settled takes back what a volume that was seen too late has said of a claim: that it is
// being grown, after the node was through with it.
func (s *Sidecar) settled(ctx context.Context, c *v1.PersistentVolumeClaim) error {
	if !slices.ContainsFunc(c.Status.Conditions, func(c v1.PersistentVolumeClaimCondition) bool { return c.Type == v1.PersistentVolumeClaimResizing }) {
		return nil
	}
	next := c.DeepCopy()
	next.Status.AllocatedResourceStatuses, next.Status.Conditions = nil, nil
	_, err := s.claims.in(c.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

func condition(kind v1.PersistentVolumeClaimConditionType, message string) []v1.PersistentVolumeClaimCondition {
	return []v1.PersistentVolumeClaimCondition{{Type: kind, Status: v1.ConditionTrue, Message: message, LastTransitionTime: metav1.Now()}}
}
