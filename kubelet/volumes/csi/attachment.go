package csi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// attachTime is how long a volume is waited for before a pod says so.
	attachTime = 2*time.Minute + 3*time.Second
	// attachLook is how often the node's object is looked at meanwhile.
	attachLook = 100 * time.Millisecond
)

var errNotAttached = errors.New("timed out waiting for the condition")

// attachment waits until the volume is attached to the node, and returns what
// the driver said about that. The node's status has to show first that the
// volume is used here: from then on it is not detached under the pod.
func (p *Plugin) attachment(ctx context.Context, t *target) (map[string]string, error) {
	wait, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	ticker := time.NewTicker(attachLook)
	defer ticker.Stop()
	name := uniqueName(t.key)
	for asked := false; ; {
		used, attached := reported(p.cfg.Node(), name)
		if used && attached {
			break
		}
		if !used && !asked {
			p.cfg.Report()
			asked = true
		}
		select {
		case <-wait.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("volume %s is not attached to the node: %w", name, errNotAttached)
		case <-ticker.C:
		}
	}
	return p.attachedAs(ctx, t)
}

// reported tells what the node's status says of a volume.
func reported(node *v1.Node, name v1.UniqueVolumeName) (used, attached bool) {
	if node == nil {
		return false, false
	}
	return slices.Contains(node.Status.VolumesInUse, name),
		slices.ContainsFunc(node.Status.VolumesAttached, func(a v1.AttachedVolume) bool { return a.Name == name })
}

// attachedAs reads what the volume's attachment gives to the node.
func (p *Plugin) attachedAs(ctx context.Context, t *target) (map[string]string, error) {
	name := attachmentName(t.key, p.cfg.NodeName)
	got, err := p.cfg.Client.StorageV1().VolumeAttachments().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("volume %s has no VolumeAttachment %s", t.handle, name)
	case err != nil:
		return nil, err
	case got.DeletionTimestamp != nil:
		return nil, fmt.Errorf("VolumeAttachment %s of volume %s is being deleted", name, t.handle)
	case !got.Status.Attached && got.Status.AttachError != nil:
		return nil, errors.New(got.Status.AttachError.Message)
	case !got.Status.Attached:
		return nil, fmt.Errorf("VolumeAttachment %s of volume %s is not attached", name, t.handle)
	}
	return got.Status.AttachmentMetadata, nil
}
