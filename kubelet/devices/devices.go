// Package devices is the kubelet's side of device plugins: they register, tell
// which devices the node has and how these are, and say what a container needs
// that was given some of them.
//
// Which container has which devices is in a checkpoint on disk, written before a
// container is made.
package devices

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"skiff/kubelet/pluginwatch"
)

// Grace is how long the resource of a plugin that went away stays in the node's
// capacity, without any healthy device.
const Grace = 5 * time.Minute

// Config configures a Manager.
type Config struct {
	// Dir is the folder of the registration socket, of plugins' sockets and of
	// the checkpoint: /var/lib/kubelet/device-plugins.
	Dir string
	// Nodes are the machine's NUMA nodes.
	Nodes []int
	// Changed is told when the node's resources may have changed, and Notify
	// when the health of devices of a pod did.
	Changed func()
	Notify  func(types.UID)
}

// Manager keeps the node's devices.
type Manager struct {
	pluginapi.UnimplementedRegistrationServer

	cfg Config

	mu        sync.Mutex // guards what follows
	resources map[string]*resource
	book      book
	ctx       context.Context // of Run; nil before and after it
	group     sync.WaitGroup
}

// resource is what is known of one resource.
type resource struct {
	// endpoint is the plugin in use; nil after a restart, until it registers.
	endpoint *endpoint
	devices  map[string]*pluginapi.Device
	// gone is when the plugin went away; zero while it serves.
	gone time.Time
}

func (r *resource) healthy() set {
	out := set{}
	for id, d := range r.devices {
		if d.Health == pluginapi.Healthy {
			out[id] = true
		}
	}
	return out
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if !filepath.IsAbs(cfg.Dir) || cfg.Changed == nil || cfg.Notify == nil {
		return nil, errors.New("devices: Dir, an absolute path, Changed and Notify are required")
	}
	return &Manager{cfg: cfg, resources: map[string]*resource{}, book: book{}}, nil
}

// Run serves the registration socket until the context ends.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	m.ctx = ctx
	m.mu.Unlock()
	defer m.group.Wait()
	defer func() {
		m.mu.Lock()
		m.ctx = nil
		m.mu.Unlock()
	}()
	defer cancel()
	if err := m.clean(); err != nil {
		return err
	}
	listener, err := pluginwatch.Listen(filepath.Join(m.cfg.Dir, filepath.Base(pluginapi.KubeletSocket)))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	pluginapi.RegisterRegistrationServer(server, m)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// clean removes the sockets of plugins: they notice, and register anew.
func (m *Manager) clean() error {
	entries, err := os.ReadDir(m.cfg.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type() == os.ModeSocket {
			err = errors.Join(err, os.Remove(filepath.Join(m.cfg.Dir, e.Name())))
		}
	}
	return err
}
