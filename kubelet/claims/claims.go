// Package claims is the kubelet's side of dynamic resource allocation: it has
// drivers prepare the devices of a pod's ResourceClaims before the pod's
// containers are made, and undo that when the pod has ended.
//
// What is prepared, and for which pods, is in a checkpoint on disk, written
// before a driver is called.
package claims

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Config configures a Manager.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	// Dir is the kubelet's folder, where the checkpoint is.
	Dir string
	// Grace is how long a driver that went away may take to come back before its
	// ResourceSlices are deleted. Default 30 seconds.
	Grace time.Duration
	// Notify is told when the health of devices of a pod changed.
	Notify func(types.UID)
}

// Manager keeps the claims of the node's pods.
type Manager struct {
	cfg Config

	// calls is held while drivers are called, so that a claim is not prepared and
	// unprepared at once.
	calls sync.Mutex

	mu      sync.Mutex // guards what follows
	claims  map[types.NamespacedName]*claim
	drivers map[string][]*driver // newest last
	health  map[deviceID]health
	wipes   map[string]context.CancelFunc // of drivers that went away
	ctx     context.Context               // of Run; nil before and after it
	group   sync.WaitGroup
}

// claim is what is known of a ResourceClaim that pods of the node use.
type claim struct {
	uid  types.UID
	name types.NamespacedName
	pods map[types.UID]bool
	// devices are those that drivers prepared; every driver of the claim has an
	// entry.
	devices  map[string][]device
	prepared bool
}

// device is a prepared one.
type device struct {
	Pool     string
	Name     string
	ShareID  *types.UID
	Requests []string
	CDI      []string
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.NodeName == "" || !filepath.IsAbs(cfg.Dir) || cfg.Notify == nil {
		return nil, errors.New("claims: Client, NodeName, Dir, an absolute path, and Notify are required")
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	return &Manager{cfg: cfg, claims: map[types.NamespacedName]*claim{}, drivers: map[string][]*driver{}, health: map[deviceID]health{}, wipes: map[string]context.CancelFunc{}}, nil
}

// Run follows drivers until the context ends.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	m.ctx = ctx
	// Drivers that are not there after a restart are gone for good.
	m.wipeLater("")
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.ctx = nil
	m.mu.Unlock()
	m.group.Wait()
	return nil
}
