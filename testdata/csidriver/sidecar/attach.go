package sidecar

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type attachments = []*storagev1.VolumeAttachment

// attach does what an attachment asks for; v is nil when its volume is gone.
func (s *Sidecar) attach(ctx context.Context, a *storagev1.VolumeAttachment, v *v1.PersistentVolume) error {
	own := "external-attacher/" + strings.ReplaceAll(s.cfg.Driver, ".", "-")
	held := slices.Contains(a.Finalizers, own)
	objects := s.attachments.in("")
	switch {
	case a.DeletionTimestamp != nil && held:
		if v != nil {
			if _, err := s.cfg.Controller.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v.Spec.CSI.VolumeHandle, NodeId: s.cfg.Node}); err != nil {
				return fmt.Errorf("detach %s: %w", v.Name, err)
			}
		}
		next := a.DeepCopy()
		next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == own })
		_, err := objects.Update(ctx, next, metav1.UpdateOptions{})
		return err
	case a.DeletionTimestamp != nil || a.Status.Attached || v == nil:
		return nil
	case !held:
		next := a.DeepCopy()
		next.Finalizers = append(next.Finalizers, own)
		var err error
		if a, err = objects.Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	got, failure := s.cfg.Controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
		VolumeId: v.Spec.CSI.VolumeHandle, NodeId: s.cfg.Node, Readonly: v.Spec.CSI.ReadOnly, VolumeContext: v.Spec.CSI.VolumeAttributes,
		VolumeCapability: capability(v.Spec.VolumeMode, v.Spec.AccessModes, v.Spec.CSI.FSType),
	})
	next := a.DeepCopy()
	if failure != nil {
		next.Status.AttachError = &storagev1.VolumeError{Time: metav1.Now(), Message: failure.Error()}
	} else {
		next.Status = storagev1.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: got.PublishContext}
	}
	_, err := objects.UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || failure == nil {
		return err
	}
	return fmt.Errorf("attach %s: %w", v.Name, failure)
}
