// Package sidecar does for a CSI driver what containers beside it usually do:
// it registers the driver with the kubelet, makes and deletes the volumes of
// claims, attaches and detaches them, and grows them. Each node's instance does
// so for the volumes of its own node.
package sidecar

import (
	"context"
	"errors"
	"log"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Config configures a Sidecar.
type Config struct {
	// API is how the API server is reached.
	API *rest.Config
	// Driver and Node are the names of the driver and of its node, TopologyKey
	// the label that says on which node a volume is.
	Driver, Node, TopologyKey string
	// Controller makes, attaches and grows volumes.
	Controller csi.ControllerClient
}

// Sidecar works for a driver.
type Sidecar struct {
	cfg         Config
	claims      *kind[*v1.PersistentVolumeClaim, *v1.PersistentVolumeClaimList]
	volumes     *kind[*v1.PersistentVolume, *v1.PersistentVolumeList]
	attachments *kind[*storagev1.VolumeAttachment, *storagev1.VolumeAttachmentList]
	classes     *kind[*storagev1.StorageClass, *storagev1.StorageClassList]
	changed     chan struct{}
}

// New checks the configuration.
func New(cfg Config) (*Sidecar, error) {
	if cfg.API == nil || cfg.Controller == nil || cfg.Driver == "" || cfg.Node == "" || cfg.TopologyKey == "" {
		return nil, errors.New("sidecar: API, Controller, Driver, Node and TopologyKey are required")
	}
	c, err := newClient(cfg.API)
	if err != nil {
		return nil, err
	}
	return &Sidecar{
		cfg: cfg, changed: make(chan struct{}, 1),
		claims:      newKind(c, c.core, "persistentvolumeclaims", blank[v1.PersistentVolumeClaim], blank[v1.PersistentVolumeClaimList]),
		volumes:     newKind(c, c.core, "persistentvolumes", blank[v1.PersistentVolume], blank[v1.PersistentVolumeList]),
		attachments: newKind(c, c.storage, "volumeattachments", blank[storagev1.VolumeAttachment], blank[storagev1.VolumeAttachmentList]),
		classes:     newKind(c, c.storage, "storageclasses", blank[storagev1.StorageClass], blank[storagev1.StorageClassList]),
	}, nil
}

func blank[T any]() *T { return new(T) }

// Run works until the context ends: whenever something changes, it looks at
// everything, which is little.
func (s *Sidecar) Run(ctx context.Context) error {
	poke := func() {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var synced []cache.InformerSynced
	for _, list := range []cache.SharedIndexInformer{s.claims.list, s.volumes.list, s.attachments.list, s.classes.list} {
		if _, err := list.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() },
		}); err != nil {
			return err
		}
		wg.Go(func() { list.RunWithContext(ctx) })
		synced = append(synced, list.HasSynced)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	for {
		err := s.once(ctx)
		var again <-chan time.Time
		if err != nil && ctx.Err() == nil {
			log.Print("sidecar: will try again: ", err)
			again = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		case <-again:
		}
	}
}

// once brings everything in step.
func (s *Sidecar) once(ctx context.Context) error {
	var errs []error
	for _, c := range s.claims.all() {
		errs = append(errs, s.provision(ctx, c))
	}
	attachments := s.attachments.all()
	for _, v := range s.volumes.all() {
		if s.mine(v) {
			errs = append(errs, s.reclaim(ctx, v, attachments), s.grow(ctx, v))
		}
	}
	for _, a := range attachments {
		if a.Spec.Attacher == s.cfg.Driver && a.Spec.NodeName == s.cfg.Node && a.Spec.Source.PersistentVolumeName != nil {
			v, _ := s.volumes.get(*a.Spec.Source.PersistentVolumeName)
			errs = append(errs, s.attach(ctx, a, v))
		}
	}
	return errors.Join(errs...)
}

// mine tells whether a volume is on this node.
func (s *Sidecar) mine(v *v1.PersistentVolume) bool {
	if v.Spec.CSI == nil || v.Spec.CSI.Driver != s.cfg.Driver || v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return false
	}
	for _, t := range v.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range t.MatchExpressions {
			if e.Key == s.cfg.TopologyKey && len(e.Values) == 1 && e.Values[0] == s.cfg.Node {
				return true
			}
		}
	}
	return false
}

// capability is how a volume is used.
func capability(mode *v1.PersistentVolumeMode, access []v1.PersistentVolumeAccessMode, fsType string) *csi.VolumeCapability {
	out := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER}}
	for _, m := range access {
		if m == v1.ReadWriteOncePod {
			out.AccessMode.Mode = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
		}
	}
	if mode != nil && *mode == v1.PersistentVolumeBlock {
		out.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		return out
	}
	out.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType}}
	return out
}

// attachedTo tells whether a volume is attached anywhere.
func attachedTo(v *v1.PersistentVolume, attachments []*storagev1.VolumeAttachment) bool {
	for _, a := range attachments {
		if a.Spec.Source.PersistentVolumeName != nil && *a.Spec.Source.PersistentVolumeName == v.Name {
			return true
		}
	}
	return false
}
