// Package csi mounts volumes through CSI drivers, which register through a
// socket of the node. What is staged and published is written down beside the
// mounts, so that a kubelet that was ended at any point knows what to undo.
package csi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/mount-utils"

	"skiff/kubelet/csinode"
	"skiff/kubelet/volumes/volume"
)

// Config configures a Plugin.
type Config struct {
	Client   kubernetes.Interface
	Recorder record.EventRecorder
	Mounter  mount.Interface
	NodeName string
	// Root is the kubelet's folder.
	Root    string
	Objects volume.Objects
	Tokens  volume.Tokens
	// Drivers lists CSIDriver objects once Synced says so.
	Drivers storagelisters.CSIDriverLister
	Synced  cache.InformerSynced
	// Nodes publishes the node's drivers.
	Nodes *csinode.Manager
	// Node gives the newest object of the node, nil before it registered, and
	// Report makes its status be written.
	Node   func() *v1.Node
	Report func()
	// Refresh is how often volumes that change are looked at again.
	Refresh time.Duration
	// SELinux says that the kernel labels files.
	SELinux bool
}

// Plugin implements volume.Plugin.
type Plugin struct {
	cfg     Config
	layout  layout
	locks   volume.Locks[key]
	started time.Time
	load    sync.Once

	mu         sync.Mutex // guards what follows
	drivers    map[string]*driver
	registered chan struct{} // closed and replaced when a driver registers
	volumes    map[key]*state
}

// state is what is known of a volume.
type state struct {
	uses map[use]*publication
	// attached volumes need a VolumeAttachment.
	attached bool
	// staged in this kubelet's lifetime.
	staged bool
	block  bool
}

// publication is a volume made ready for a pod.
type publication struct {
	done bool
	at   time.Time
	// size of the volume as the node has it.
	size int64
}

// New checks the configuration.
func New(cfg Config) (*Plugin, error) {
	switch {
	case cfg.Client == nil || cfg.Mounter == nil || cfg.Recorder == nil || cfg.Drivers == nil || cfg.Synced == nil || cfg.Nodes == nil:
		return nil, errors.New("csi: Client, Mounter, Recorder, Drivers, Synced and Nodes are required")
	case cfg.Root == "" || cfg.NodeName == "" || cfg.Node == nil || cfg.Report == nil || cfg.Objects == nil || cfg.Tokens == nil:
		return nil, errors.New("csi: Root, NodeName, Node, Report, Objects and Tokens are required")
	case cfg.Refresh <= 0:
		return nil, fmt.Errorf("csi: Refresh is %v, want a positive time", cfg.Refresh)
	}
	return &Plugin{
		cfg: cfg, layout: layout{cfg.Root}, started: time.Now(),
		drivers: map[string]*driver{}, registered: make(chan struct{}), volumes: map[key]*state{},
	}, nil
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/csi" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool {
	if r.PV != nil {
		return r.PV.Spec.CSI != nil
	}
	return r.Volume.CSI != nil
}

// object gives the CSIDriver of a driver, nil when there is none.
func (p *Plugin) object(ctx context.Context, name string) (*storagev1.CSIDriver, error) {
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !cache.WaitForCacheSync(wait.Done(), p.cfg.Synced) {
		return nil, errors.New("CSIDriver objects have not been read yet")
	}
	d, err := p.cfg.Drivers.Get(name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return d, err
}
