// Package attachdetach asks CSI drivers, by VolumeAttachments, to attach the
// volumes of pods to their nodes and to detach them again.
package attachdetach

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/ephemeral"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

const (
	// look is how often a node whose kubelet still uses a volume is looked at.
	look = 5 * time.Second
	// force is how long a kubelet that is gone can hold a volume.
	force = 6 * time.Minute
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller keeps VolumeAttachments; its keys are names of nodes.
type Controller struct {
	*loop.Loop
	parts       loop.Parts
	pods        cache.SharedIndexInformer
	nodes       corelisters.NodeLister
	claims      corelisters.PersistentVolumeClaimLister
	volumes     corelisters.PersistentVolumeLister
	attachments storagelisters.VolumeAttachmentLister
	drivers     storagelisters.CSIDriverLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("attachdetach")
	if err != nil {
		return nil, err
	}
	core, group := parts.Informers.Core().V1(), parts.Informers.Storage().V1()
	a := &Controller{
		parts: parts, pods: core.Pods().Informer(), nodes: core.Nodes().Lister(), claims: core.PersistentVolumeClaims().Lister(),
		volumes: core.PersistentVolumes().Lister(), attachments: group.VolumeAttachments().Lister(), drivers: group.CSIDrivers().Lister(),
	}
	if err := loop.IndexNode(a.pods); err != nil {
		return nil, err
	}
	a.Loop = loop.New("attachdetach", parts, a.sync)
	a.On(a.pods, loop.Each(func(p *v1.Pod) {
		if p.Spec.NodeName != "" && hasClaims(p) {
			a.Add(p.Spec.NodeName)
		}
	}))
	a.On(core.Nodes().Informer(), loop.Handlers(
		func(n *v1.Node) { a.Add(n.Name) },
		func(old, n *v1.Node) {
			if !slices.Equal(old.Status.VolumesInUse, n.Status.VolumesInUse) {
				a.Add(n.Name)
			}
		},
		func(n *v1.Node) { a.Add(n.Name) }))
	a.On(group.VolumeAttachments().Informer(), loop.Each(func(v *storage.VolumeAttachment) { a.Add(v.Spec.NodeName) }))
	a.On(core.PersistentVolumeClaims().Informer(), loop.Handlers(nil, func(old, claim *v1.PersistentVolumeClaim) {
		// Pods that were bound to nodes first now have their volume.
		if old.Spec.VolumeName != claim.Spec.VolumeName {
			a.everyNode()
		}
	}, nil))
	a.Reads(core.PersistentVolumes().Informer(), group.CSIDrivers().Informer())
	return a, nil
}

func (c *Controller) everyNode() {
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return
	}
	for _, n := range nodes {
		c.Add(n.Name)
	}
}

func hasClaims(p *v1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v v1.Volume) bool { return v.PersistentVolumeClaim != nil || v.Ephemeral != nil })
}

// AttachmentName is fixed by what is attached where, so that it is made once.
func AttachmentName(handle, driver, node string) string {
	sum := sha256.Sum256([]byte(handle + driver + node))
	return fmt.Sprintf("csi-%x", sum)
}

// Made says whether a name is one that AttachmentName gives: attachments of
// other names are their makers' to delete.
func Made(name string) bool {
	sum, ok := strings.CutPrefix(name, "csi-")
	b, err := hex.DecodeString(sum)
	return ok && err == nil && len(b) == sha256.Size
}

// UniqueName is how kubelets name a CSI volume in their node's status.
func UniqueName(driver, handle string) v1.UniqueVolumeName {
	return v1.UniqueVolumeName("kubernetes.io/csi/" + driver + "^" + handle)
}

// wanted lists the volumes that the node's pods need.
func (c *Controller) wanted(node string) ([]*v1.PersistentVolume, error) {
	pods, err := loop.ByIndex[*v1.Pod](c.pods, loop.ByNode, node)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var out []*v1.PersistentVolume
	for _, p := range pods {
		if podcontrol.Terminal(p) {
			continue
		}
		for i := range p.Spec.Volumes {
			name := ""
			switch v := &p.Spec.Volumes[i]; {
			case v.PersistentVolumeClaim != nil:
				name = v.PersistentVolumeClaim.ClaimName
			case v.Ephemeral != nil:
				name = ephemeral.VolumeClaimName(p, v)
			default:
				continue
			}
			claim, err := c.claims.PersistentVolumeClaims(p.Namespace).Get(name)
			if err != nil || claim.Spec.VolumeName == "" || claim.Status.Phase != v1.ClaimBound {
				continue // not yet: an event tells when
			}
			volume, err := c.volumes.Get(claim.Spec.VolumeName)
			if err != nil || volume.Spec.CSI == nil || seen[volume.Name] {
				continue
			}
			attach, err := c.attachable(volume.Spec.CSI.Driver)
			if err != nil {
				return nil, err
			}
			if attach {
				seen[volume.Name] = true
				out = append(out, volume)
			}
		}
	}
	return out, nil
}

func (c *Controller) attachable(driver string) (bool, error) {
	d, err := c.drivers.Get(driver)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return d.Spec.AttachRequired == nil || *d.Spec.AttachRequired, nil
}

func (c *Controller) sync(ctx context.Context, name string) error {
	node, err := c.nodes.Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	gone := err != nil
	wanted, err := c.wanted(name)
	if err != nil {
		return err
	}
	all, err := c.attachments.List(labels.Everything())
	if err != nil {
		return err
	}
	have := map[string]*storage.VolumeAttachment{}
	elsewhere := map[string]string{}
	for _, a := range all {
		if a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		if a.Spec.NodeName == name {
			have[*a.Spec.Source.PersistentVolumeName] = a
		} else {
			elsewhere[*a.Spec.Source.PersistentVolumeName] = a.Spec.NodeName
		}
	}
	var errs []error
	for _, v := range wanted {
		if gone || have[v.Name] != nil {
			continue
		}
		if other, busy := elsewhere[v.Name]; busy && !Shared(v) {
			c.tellBusy(name, v, other)
			c.AddAfter(name, look)
			continue
		}
		errs = append(errs, c.attach(ctx, v, name))
	}
	for volume, a := range have {
		if slices.ContainsFunc(wanted, func(v *v1.PersistentVolume) bool { return v.Name == volume }) || a.DeletionTimestamp != nil || !Made(a.Name) {
			continue
		}
		if !gone && c.inUse(node, volume) {
			c.AddAfter(name, look)
			continue
		}
		err := c.parts.Client.StorageV1().VolumeAttachments().Delete(ctx, a.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(a.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Shared says whether the volume may be on several nodes at once.
func Shared(v *v1.PersistentVolume) bool {
	return slices.ContainsFunc(v.Spec.AccessModes, func(m v1.PersistentVolumeAccessMode) bool {
		return m == v1.ReadWriteMany || m == v1.ReadOnlyMany
	})
}

// inUse says whether the node's kubelet still has the volume mounted. One that
// has been silent for long is not believed any more, if the node is marked as
// out of service.
func (c *Controller) inUse(node *v1.Node, volume string) bool {
	v, err := c.volumes.Get(volume)
	if err != nil || v.Spec.CSI == nil || !slices.Contains(node.Status.VolumesInUse, UniqueName(v.Spec.CSI.Driver, v.Spec.CSI.VolumeHandle)) {
		return false
	}
	for _, t := range node.Spec.Taints {
		if t.Key == v1.TaintNodeOutOfService {
			return false
		}
	}
	for _, cond := range node.Status.Conditions {
		if cond.Type == v1.NodeReady && cond.Status != v1.ConditionTrue && c.parts.Clock.Now().Sub(cond.LastTransitionTime.Time) > force {
			return false
		}
	}
	return true
}

func (c *Controller) attach(ctx context.Context, v *v1.PersistentVolume, node string) error {
	csi := v.Spec.CSI
	_, err := c.parts.Client.StorageV1().VolumeAttachments().Create(ctx, &storage.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: AttachmentName(csi.VolumeHandle, csi.Driver, node)},
		Spec: storage.VolumeAttachmentSpec{
			Attacher: csi.Driver, NodeName: node, Source: storage.VolumeAttachmentSource{PersistentVolumeName: &v.Name},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// tellBusy says on the waiting pods who holds their volume.
func (c *Controller) tellBusy(node string, v *v1.PersistentVolume, other string) {
	holders := c.users(other, v)
	for _, p := range c.users(node, v) {
		if len(holders) == 0 {
			c.parts.Events.Eventf(p, v1.EventTypeWarning, "FailedAttachVolume", "Multi-Attach error for volume %q Volume is already exclusively attached to one node and can't be attached to another", v.Name)
			continue
		}
		var names []string
		for _, h := range holders {
			names = append(names, h.Name)
		}
		c.parts.Events.Eventf(p, v1.EventTypeWarning, "FailedAttachVolume", "Multi-Attach error for volume %q Volume is already used by pod(s) %s", v.Name, strings.Join(names, ", "))
	}
}

func (c *Controller) users(node string, v *v1.PersistentVolume) []*v1.Pod {
	pods, err := loop.ByIndex[*v1.Pod](c.pods, loop.ByNode, node)
	if err != nil || v.Spec.ClaimRef == nil {
		return nil
	}
	return slices.DeleteFunc(pods, func(p *v1.Pod) bool {
		return p.Namespace != v.Spec.ClaimRef.Namespace || !slices.ContainsFunc(p.Spec.Volumes, func(s v1.Volume) bool {
			return s.PersistentVolumeClaim != nil && s.PersistentVolumeClaim.ClaimName == v.Spec.ClaimRef.Name ||
				s.Ephemeral != nil && ephemeral.VolumeClaimName(p, &s) == v.Spec.ClaimRef.Name
		})
	})
}
