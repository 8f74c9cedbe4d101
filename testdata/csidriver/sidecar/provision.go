package sidecar

import (
	"context"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The annotations of claims and volumes.
const (
	annProvisioner   = "volume.kubernetes.io/storage-provisioner"
	annSelectedNode  = "volume.kubernetes.io/selected-node"
	annProvisionedBy = "pv.kubernetes.io/provisioned-by"
)

// finalizer keeps a volume's object until the driver has deleted the volume.
const finalizer = "external-provisioner.volume.kubernetes.io/finalizer"

// provision makes the volume of a claim that waits for one on this node.
func (s *Sidecar) provision(ctx context.Context, c *v1.PersistentVolumeClaim) error {
	if c.Spec.VolumeName != "" || c.DeletionTimestamp != nil || c.Spec.StorageClassName == nil ||
		c.Annotations[annProvisioner] != s.cfg.Driver || c.Annotations[annSelectedNode] != s.cfg.Node {
		return nil
	}
	class, ok := s.classes.get(*c.Spec.StorageClassName)
	if !ok {
		return fmt.Errorf("claim %s/%s: there is no storage class %q", c.Namespace, c.Name, *c.Spec.StorageClassName)
	}
	name := "pvc-" + string(c.UID)
	if _, ok := s.volumes.get(name); ok {
		return nil
	}
	size := c.Spec.Resources.Requests[v1.ResourceStorage]
	got, err := s.cfg.Controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: name, Parameters: class.Parameters, CapacityRange: &csi.CapacityRange{RequiredBytes: size.Value()},
		VolumeCapabilities: []*csi.VolumeCapability{capability(c.Spec.VolumeMode, c.Spec.AccessModes, "")},
		AccessibilityRequirements: &csi.TopologyRequirement{
			Requisite: []*csi.Topology{{Segments: map[string]string{s.cfg.TopologyKey: s.cfg.Node}}},
		},
	})
	if err != nil {
		return fmt.Errorf("claim %s/%s: %w", c.Namespace, c.Name, err)
	}
	policy := v1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	v := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{annProvisionedBy: s.cfg.Driver}, Finalizers: []string{finalizer}},
		Spec: v1.PersistentVolumeSpec{
			Capacity:    v1.ResourceList{v1.ResourceStorage: *resource.NewQuantity(got.Volume.CapacityBytes, resource.BinarySI)},
			AccessModes: c.Spec.AccessModes, VolumeMode: c.Spec.VolumeMode, StorageClassName: class.Name, MountOptions: class.MountOptions,
			PersistentVolumeReclaimPolicy: policy,
			ClaimRef:                      &v1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID},
			PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{
				Driver: s.cfg.Driver, VolumeHandle: got.Volume.VolumeId, VolumeAttributes: got.Volume.VolumeContext,
			}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{}},
		},
	}
	for _, t := range got.Volume.AccessibleTopology {
		var term v1.NodeSelectorTerm
		for key, value := range t.Segments {
			term.MatchExpressions = append(term.MatchExpressions, v1.NodeSelectorRequirement{Key: key, Operator: v1.NodeSelectorOpIn, Values: []string{value}})
		}
		v.Spec.NodeAffinity.Required.NodeSelectorTerms = append(v.Spec.NodeAffinity.Required.NodeSelectorTerms, term)
	}
	_, err = s.volumes.in("").Create(ctx, v, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// reclaim deletes a volume that its claim has left.
func (s *Sidecar) reclaim(ctx context.Context, v *v1.PersistentVolume, attachments attachments) error {
	released := v.Status.Phase == v1.VolumeReleased && v.Spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimDelete
	if !released && v.DeletionTimestamp == nil || attachedTo(v, attachments) || v.Annotations[annProvisionedBy] != s.cfg.Driver {
		return nil
	}
	if released {
		if _, err := s.cfg.Controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.Spec.CSI.VolumeHandle}); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	} else if v.Spec.ClaimRef != nil && v.Status.Phase == v1.VolumeBound {
		return nil
	}
	next := v.DeepCopy()
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == finalizer })
	if len(next.Finalizers) != len(v.Finalizers) {
		if _, err := s.volumes.in("").Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	err := s.volumes.in("").Delete(ctx, v.Name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
