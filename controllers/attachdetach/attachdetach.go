// Package attachdetach asks CSI drivers, by VolumeAttachments, to attach the
// volumes of pods to their nodes and to detach them again.
package attachdetach

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/component-helpers/storage/ephemeral"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

// again is how often a node is looked at whose kubelet still uses a volume, or
// that waits for another node's.
const again = 5 * time.Second

// Indexes of VolumeAttachments.
const (
	byNode   = "attachmentNode"
	byVolume = "attachmentVolume"
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
	attachments cache.SharedIndexInformer
	drivers     storagelisters.CSIDriverLister

	mu sync.Mutex // guards what follows
	// unwanted is since when a node's attachment is not needed, by its name.
	unwanted map[string]time.Time
	// told are the pods' nodes and volumes that were told who holds these.
	told map[string]bool
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
		volumes: core.PersistentVolumes().Lister(), attachments: group.VolumeAttachments().Informer(), drivers: group.CSIDrivers().Lister(),
		unwanted: map[string]time.Time{}, told: map[string]bool{},
	}
	if err := a.index(); err != nil {
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
			if !slices.Equal(old.Status.VolumesInUse, n.Status.VolumesInUse) || !slices.Equal(old.Status.VolumesAttached, n.Status.VolumesAttached) ||
				!equality.Semantic.DeepEqual(old.Spec.Taints, n.Spec.Taints) || ready(old) != ready(n) {
				a.Add(n.Name)
			}
		},
		func(n *v1.Node) { a.Add(n.Name) }))
	a.On(a.attachments, loop.Handlers(
		func(v *storage.VolumeAttachment) { a.Add(v.Spec.NodeName) },
		func(old, v *storage.VolumeAttachment) {
			a.tellProgress(old, v)
			a.Add(v.Spec.NodeName)
		},
		func(v *storage.VolumeAttachment) {
			a.Add(v.Spec.NodeName)
			a.detached(v)
		}))
	a.On(core.PersistentVolumeClaims().Informer(), loop.Handlers(nil, func(old, claim *v1.PersistentVolumeClaim) {
		// Pods that were bound to nodes first now have their volume.
		if old.Spec.VolumeName != claim.Spec.VolumeName {
			a.everyNode()
		}
	}, nil))
	a.Reads(core.PersistentVolumes().Informer(), group.CSIDrivers().Informer())
	return a, nil
}

func (c *Controller) index() error {
	err := loop.Index(c.attachments, byNode, func(obj any) ([]string, error) {
		if a, ok := obj.(*storage.VolumeAttachment); ok {
			return []string{a.Spec.NodeName}, nil
		}
		return nil, nil
	})
	if err == nil {
		err = loop.Index(c.attachments, byVolume, func(obj any) ([]string, error) {
			if a, ok := obj.(*storage.VolumeAttachment); ok && a.Spec.Source.PersistentVolumeName != nil {
				return []string{*a.Spec.Source.PersistentVolumeName}, nil
			}
			return nil, nil
		})
	}
	if err != nil {
		return err
	}
	return loop.IndexNode(c.pods)
}

// detached forgets an attachment, and looks at the nodes whose pods waited for
// its volume.
func (c *Controller) detached(a *storage.VolumeAttachment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unwanted, a.Name)
	if a.Spec.Source.PersistentVolumeName == nil {
		return
	}
	for key := range c.told {
		if node, volume, _ := strings.Cut(key, "/"); volume == *a.Spec.Source.PersistentVolumeName {
			c.Add(node)
		}
	}
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
	in, err := c.look(name)
	if err != nil {
		return err
	}
	plan := Decide(in)
	errs := []error{c.report(ctx, in.Node, plan.Attached)}
	if errs[0] == nil {
		for _, a := range plan.Detach {
			errs = append(errs, c.detach(ctx, a))
		}
	}
	for _, v := range plan.Attach {
		errs = append(errs, c.attach(ctx, v, name))
	}
	c.tellBusy(name, in.Elsewhere, plan.Busy)
	if plan.Held || len(plan.Busy) > 0 {
		c.AddAfter(name, again)
	}
	return errors.Join(errs...)
}

// look gathers what there is to know about a node.
func (c *Controller) look(name string) (Input, error) {
	in := Input{
		Now: c.parts.Clock.Now(), Here: map[string]*storage.VolumeAttachment{}, Elsewhere: map[string]string{},
		Known: map[string]*v1.PersistentVolume{}, Unwanted: map[string]time.Time{},
	}
	var err error
	if in.Node, err = c.nodes.Get(name); err != nil {
		if !apierrors.IsNotFound(err) {
			return in, err
		}
		in.Node = nil
	}
	if in.Wanted, err = c.wanted(name); err != nil {
		return in, err
	}
	here, err := loop.ByIndex[*storage.VolumeAttachment](c.attachments, byNode, name)
	if err != nil {
		return in, err
	}
	for _, a := range here {
		if volume := a.Spec.Source.PersistentVolumeName; volume != nil {
			in.Here[*volume] = a
			if v, err := c.volumes.Get(*volume); err == nil {
				in.Known[*volume] = v
			}
		}
	}
	for _, v := range in.Wanted {
		all, err := loop.ByIndex[*storage.VolumeAttachment](c.attachments, byVolume, v.Name)
		if err != nil {
			return in, err
		}
		for _, a := range all {
			if a.Spec.NodeName != name {
				in.Elsewhere[v.Name] = a.Spec.NodeName
			}
		}
	}
	c.age(&in)
	return in, nil
}

// age notes since when the node's attachments are not needed.
func (c *Controller) age(in *Input) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for volume, a := range in.Here {
		if slices.ContainsFunc(in.Wanted, func(v *v1.PersistentVolume) bool { return v.Name == volume }) || a.DeletionTimestamp != nil {
			delete(c.unwanted, a.Name)
			continue
		}
		if _, ok := c.unwanted[a.Name]; !ok {
			c.unwanted[a.Name] = in.Now
		}
		in.Unwanted[volume] = c.unwanted[a.Name]
	}
}

// report writes what is attached into the node's status.
func (c *Controller) report(ctx context.Context, node *v1.Node, attached []v1.AttachedVolume) error {
	if node == nil || slices.Equal(node.Status.VolumesAttached, attached) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"volumesAttached": attached}})
	if err != nil {
		return err
	}
	_, err = c.parts.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Controller) detach(ctx context.Context, a *storage.VolumeAttachment) error {
	err := c.parts.Client.StorageV1().VolumeAttachments().Delete(ctx, a.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(a.UID))})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return err
	}
	return nil
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
