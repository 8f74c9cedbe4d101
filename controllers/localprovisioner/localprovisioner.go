// Package localprovisioner makes PersistentVolumes that are directories on a
// node. Package localvolume is its counterpart on the nodes.
package localprovisioner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	volumes "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"skiff/controllers/localvolume"
	"skiff/controllers/loop"
)

const (
	claimPrefix = "claim:"
	nodePrefix  = "node:"
	// young volumes are asked for on the node; later their directory is there.
	young = time.Minute
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Nodes annotates Node objects. Default: Client.
	Nodes kubernetes.Interface
	// Name is the provisioner that storage classes name. Required.
	Name string
	// Directory on nodes that do not name theirs. Required, absolute.
	Directory string
}

// Controller makes and removes local volumes.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	config  Config
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	nodes   corelisters.NodeLister
	classes storagelisters.StorageClassLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	c.Workers = 1
	parts, err := c.Complete("local-provisioner")
	errs := []error{err}
	if c.Name == "" {
		errs = append(errs, errors.New("local-provisioner: Name is empty: give the provisioner's name"))
	}
	if !filepath.IsAbs(c.Directory) {
		errs = append(errs, fmt.Errorf("local-provisioner: Directory is %q: give an absolute path", c.Directory))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if c.Nodes == nil {
		c.Nodes = parts.Client
	}
	core := parts.Informers.Core().V1()
	classes := parts.Informers.Storage().V1().StorageClasses()
	l := &Controller{
		parts: parts, config: c, claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(),
		nodes: core.Nodes().Lister(), classes: classes.Lister(),
	}
	l.Loop = loop.New("local-provisioner", parts, l.sync)
	l.On(core.PersistentVolumeClaims().Informer(), loop.Changed(func(p *v1.PersistentVolumeClaim) {
		if p.Annotations[volumes.AnnStorageProvisioner] == c.Name {
			l.Add(claimPrefix + p.Namespace + "/" + p.Name)
		}
	}))
	l.On(core.PersistentVolumes().Informer(), loop.Each(func(v *v1.PersistentVolume) {
		if v.Annotations[volumes.AnnDynamicallyProvisioned] == c.Name {
			l.Add(nodePrefix + NodeOf(v))
		}
	}))
	l.On(core.Nodes().Informer(), loop.Handlers(
		func(n *v1.Node) { l.Add(nodePrefix + n.Name) },
		func(old, n *v1.Node) {
			if old.Annotations[localvolume.Reclaimed] != n.Annotations[localvolume.Reclaimed] {
				l.Add(nodePrefix + n.Name)
			}
		},
		func(n *v1.Node) { l.Add(nodePrefix + n.Name) }))
	l.Reads(classes.Informer())
	return l, nil
}

func (c *Controller) sync(ctx context.Context, key string) error {
	if name, ok := strings.CutPrefix(key, nodePrefix); ok {
		return c.syncNode(ctx, name)
	}
	namespace, name := loop.Split(strings.TrimPrefix(key, claimPrefix))
	claim, err := c.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Spec.VolumeName != "" {
		return c.grow(ctx, claim)
	}
	return c.provision(ctx, claim)
}

// VolumeName is the volume of a claim: making it twice is refused by the API.
func VolumeName(claim *v1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

func (c *Controller) provision(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	if claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil || claim.Annotations[volumes.AnnStorageProvisioner] != c.config.Name {
		return nil
	}
	if _, err := c.volumes.Get(VolumeName(claim)); !apierrors.IsNotFound(err) {
		return err
	}
	class, err := c.classes.Get(volumes.GetPersistentVolumeClaimClass(claim))
	if err != nil || class.Provisioner != c.config.Name {
		return err
	}
	node, err := c.choose(ctx, claim, class)
	if err != nil || node == nil {
		return err
	}
	if reason := Refusal(claim); reason != "" {
		c.parts.Events.Eventf(claim, v1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %s", class.Name, reason)
		return c.reschedule(ctx, claim)
	}
	volume := NewVolume(claim, class, node, c.config.Name, localvolume.DirectoryOf(node, c.config.Directory))
	c.parts.Events.Eventf(claim, v1.EventTypeNormal, "Provisioning", "External provisioner is provisioning volume for claim %q", claim.Namespace+"/"+claim.Name)
	_, err = c.parts.Client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		c.parts.Events.Eventf(claim, v1.EventTypeWarning, "ProvisioningFailed", "failed to provision volume with StorageClass %q: %v", class.Name, err)
		return err
	}
	c.parts.Events.Eventf(claim, v1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s", volume.Name)
	return nil
}

// choose is the scheduler's node, or any that is ready where the class binds at
// once. No node: the claim waits.
func (c *Controller) choose(ctx context.Context, claim *v1.PersistentVolumeClaim, class *storage.StorageClass) (*v1.Node, error) {
	if name := claim.Annotations[volumes.AnnSelectedNode]; name != "" {
		node, err := c.nodes.Get(name)
		if apierrors.IsNotFound(err) {
			return nil, c.reschedule(ctx, claim)
		}
		return node, err
	}
	if class.VolumeBindingMode != nil && *class.VolumeBindingMode == storage.VolumeBindingWaitForFirstConsumer {
		return nil, nil
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(nodes, func(a, b *v1.Node) int { return strings.Compare(a.Name, b.Name) })
	for _, n := range nodes {
		for _, cond := range n.Status.Conditions {
			if cond.Type == v1.NodeReady && cond.Status == v1.ConditionTrue && !n.Spec.Unschedulable {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("no node is ready for the volume of claim %s/%s", claim.Namespace, claim.Name)
}

// reschedule gives the claim back to the scheduler, which may pick another node.
func (c *Controller) reschedule(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	if claim.Annotations[volumes.AnnSelectedNode] == "" {
		return nil
	}
	next := claim.DeepCopy()
	delete(next.Annotations, volumes.AnnSelectedNode)
	_, err := c.parts.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, next, metav1.UpdateOptions{})
	return err
}

// Refusal says what of the claim a directory cannot be; empty when nothing.
func Refusal(claim *v1.PersistentVolumeClaim) string {
	if ptr.Deref(claim.Spec.VolumeMode, v1.PersistentVolumeFilesystem) != v1.PersistentVolumeFilesystem {
		return "volumeMode Block is not supported: ask for Filesystem"
	}
	for _, m := range claim.Spec.AccessModes {
		if m != v1.ReadWriteOnce && m != v1.ReadWriteOncePod {
			return fmt.Sprintf("access mode %s is not supported: ask for ReadWriteOnce", m)
		}
	}
	if claim.Spec.Selector != nil {
		return "claim.Spec.Selector is not supported"
	}
	if claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil {
		return "dataSource is not supported"
	}
	return ""
}

// NewVolume is the volume of a claim on a node.
func NewVolume(claim *v1.PersistentVolumeClaim, class *storage.StorageClass, node *v1.Node, provisioner, directory string) *v1.PersistentVolume {
	name := VolumeName(claim)
	hostname := node.Labels[v1.LabelHostname]
	term := v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{hostname}}}}
	if hostname == "" {
		term = v1.NodeSelectorTerm{MatchFields: []v1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: v1.NodeSelectorOpIn, Values: []string{node.Name}}}}
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
			volumes.AnnDynamicallyProvisioned: provisioner, nodeAnnotation: node.Name,
		}},
		Spec: v1.PersistentVolumeSpec{
			Capacity:    v1.ResourceList{v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage]},
			AccessModes: claim.Spec.AccessModes,
			VolumeMode:  ptr.To(v1.PersistentVolumeFilesystem),
			PersistentVolumeSource: v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{
				Path: filepath.Join(directory, name), Type: ptr.To(v1.HostPathDirectoryOrCreate),
			}},
			PersistentVolumeReclaimPolicy: ptr.Deref(class.ReclaimPolicy, v1.PersistentVolumeReclaimDelete),
			StorageClassName:              class.Name,
			MountOptions:                  class.MountOptions,
			NodeAffinity:                  &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{term}}},
			ClaimRef: &v1.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name,
				UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
		},
	}
}

// nodeAnnotation names the volume's node: its affinity only has the hostname.
const nodeAnnotation = "volumes.skiff.io/node"

// NodeOf is the node that holds the volume.
func NodeOf(v *v1.PersistentVolume) string { return v.Annotations[nodeAnnotation] }

// Wishes are what a node is to do for its volumes.
type Wishes struct {
	Make, Reclaim []string
	// Gone are volumes whose directory is removed, or whose node is: their
	// objects can go.
	Gone []string
	// Again is when a young volume is one no more.
	Again time.Duration
}

// Plan decides for one node; node is nil when it is gone.
func Plan(all []*v1.PersistentVolume, node *v1.Node, now time.Time) Wishes {
	var w Wishes
	var reclaimed []string
	if node != nil {
		reclaimed = localvolume.Names(node.Annotations[localvolume.Reclaimed])
	}
	for _, v := range all {
		if v.Status.Phase == v1.VolumeReleased && v.Spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimDelete {
			if node == nil || slices.Contains(reclaimed, v.Name) {
				w.Gone = append(w.Gone, v.Name)
			}
			if node != nil {
				w.Reclaim = append(w.Reclaim, v.Name)
			}
			continue
		}
		if age := now.Sub(v.CreationTimestamp.Time); age < young {
			w.Make = append(w.Make, v.Name)
			w.Again = max(w.Again, young-age)
		}
	}
	return w
}

func (c *Controller) syncNode(ctx context.Context, name string) error {
	all, err := c.volumes.List(labels.Everything())
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(slices.Clone(all), func(v *v1.PersistentVolume) bool {
		return v.Annotations[volumes.AnnDynamicallyProvisioned] != c.config.Name || NodeOf(v) != name
	})
	node, err := c.nodes.Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err != nil {
		// The cache may only be late.
		if node, err = c.config.Nodes.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			node = nil
		} else if err != nil {
			return err
		}
	}
	w := Plan(all, node, c.parts.Clock.Now())
	for _, gone := range w.Gone {
		err := c.parts.Client.CoreV1().PersistentVolumes().Delete(ctx, gone, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	if w.Again > 0 {
		c.AddAfter(nodePrefix+name, w.Again)
	}
	if node == nil {
		return nil
	}
	return c.ask(ctx, node, map[string]string{localvolume.Make: localvolume.Value(w.Make), localvolume.Reclaim: localvolume.Value(w.Reclaim)})
}

// ask writes the node's annotations where they differ.
func (c *Controller) ask(ctx context.Context, node *v1.Node, wanted map[string]string) error {
	changes := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		switch have, ok := node.Annotations[key]; {
		case wanted[key] == "" && ok:
			changes[key] = nil
		case wanted[key] != "" && have != wanted[key]:
			changes[key] = wanted[key]
		}
	}
	if len(changes) == 0 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": changes}})
	if err != nil {
		return err
	}
	_, err = c.config.Nodes.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
