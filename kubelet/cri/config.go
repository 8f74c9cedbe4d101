package cri

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/cri-streaming/pkg/streaming"

	"skiff/kubelet/cri/images"
	"skiff/kubelet/network"
)

// Config configures a Runtime.
type Config struct {
	// StateDir keeps images, sandboxes and containers. It must be on a file
	// system that overlayfs can write to.
	StateDir string
	// RunDir keeps sockets and namespaces; it does not outlive a boot.
	RunDir string
	// Socket is where the CRI is served; empty for in memory only.
	Socket string
	// CgroupRoot is the cgroup that shims, and pods without a cgroup parent,
	// are below. Default "/".
	CgroupRoot string
	// SystemdCgroups makes systemd manage the containers' cgroups.
	SystemdCgroups bool
	// ShimPath is a shim to use in place of the embedded one.
	ShimPath string
	// Registries is the path of registries.yaml.
	Registries string
	// Network connects pods; required.
	Network network.Plugin
	// SeccompDir is where relative Localhost seccomp profiles are. Default /var/lib/kubelet/seccomp.
	SeccompDir string
	// StreamAddress is where exec, attach and port-forward streams are served
	// for clients of the socket. Default 127.0.0.1:0.
	StreamAddress string
	// CDIDirs hold the descriptions of CDI devices; a later folder's are
	// preferred. Default /etc/cdi and /var/run/cdi.
	CDIDirs []string
	// ResolvConf is the host's resolver configuration, for pods that bring
	// none. Default /etc/resolv.conf.
	ResolvConf string
	// Version is what the runtime calls itself.
	Version string
	// PinnedImages are never offered to garbage collection.
	PinnedImages []string
}

// Runtime is the container runtime. It implements RuntimeService and
// ImageManagerService of k8s.io/cri-api. Run must have begun before it is used.
type Runtime struct {
	cfg        Config
	images     *images.Store
	events     *events
	shims      *shims
	usage      *usageCache
	layout     cgroupLayout
	own        privileges
	ready      chan struct{} // closed when the state on disk is known
	background background

	streamMu sync.Mutex
	stream   streaming.Server // nil before Run; guarded by streamMu

	mu         sync.Mutex
	sandboxes  map[string]*sandbox   // guarded by mu
	containers map[string]*container // guarded by mu
	reserved   map[string]string     // names in use, to IDs; guarded by mu
}

// New checks the configuration and opens the image store.
func New(cfg Config) (*Runtime, error) {
	for _, p := range []struct{ field, value string }{{"StateDir", cfg.StateDir}, {"RunDir", cfg.RunDir}} {
		if !filepath.IsAbs(p.value) {
			return nil, fmt.Errorf("cri: %s %q: want an absolute path", p.field, p.value)
		}
	}
	if cfg.Network == nil {
		return nil, errors.New("cri: Network is required")
	}
	if cfg.CgroupRoot == "" {
		cfg.CgroupRoot = "/"
	}
	if !strings.HasPrefix(cfg.CgroupRoot, "/") {
		return nil, fmt.Errorf("cri: CgroupRoot %q: want an absolute cgroup path", cfg.CgroupRoot)
	}
	if cfg.SeccompDir == "" {
		cfg.SeccompDir = "/var/lib/kubelet/seccomp"
	}
	if len(cfg.CDIDirs) == 0 {
		cfg.CDIDirs = []string{"/etc/cdi", "/var/run/cdi"}
	}
	if cfg.StreamAddress == "" {
		cfg.StreamAddress = "127.0.0.1:0"
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.Version == "" {
		cfg.Version = "v0.0.0"
	}
	r := &Runtime{
		cfg:        cfg,
		events:     newEvents(),
		shims:      &shims{path: cfg.ShimPath},
		usage:      newUsageCache(),
		layout:     findCgroups(),
		ready:      make(chan struct{}),
		sandboxes:  make(map[string]*sandbox),
		containers: make(map[string]*container),
		reserved:   make(map[string]string),
	}
	for _, dir := range []string{r.sandboxRoot(), r.containerRoot(), cfg.RunDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("cri: %w", err)
		}
	}
	// The root of a pod with a user namespace passes through as another user.
	for _, dir := range []string{cfg.StateDir, cfg.RunDir} {
		if err := os.Chmod(dir, 0o711); err != nil {
			return nil, fmt.Errorf("cri: %w", err)
		}
	}
	var err error
	if r.own, err = findPrivileges(); err != nil {
		return nil, fmt.Errorf("cri: %w", err)
	}
	r.images, err = images.New(images.Config{
		Root:       filepath.Join(cfg.StateDir, "images"),
		Registries: cfg.Registries,
		Pinned:     cfg.PinnedImages,
	})
	if err != nil {
		return nil, fmt.Errorf("cri: %w", err)
	}
	return r, nil
}

// Ready is closed when the runtime knows what runs and can be used.
func (r *Runtime) Ready() <-chan struct{} { return r.ready }

// Images is the image store, for importing and exporting.
func (r *Runtime) Images() *images.Store { return r.images }

// StreamingHandler serves the paths of the URLs that Exec, Attach and
// PortForward return, so that a server of the same process can answer a stream
// itself, without a second connection.
func (r *Runtime) StreamingHandler() http.Handler {
	return endingTaken(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s := r.streamServer()
		if s == nil {
			http.Error(w, "the container runtime is not running", http.StatusServiceUnavailable)
			return
		}
		s.ServeHTTP(w, req)
	}), leftGrace)
}

func (r *Runtime) streamServer() streaming.Server {
	r.streamMu.Lock()
	defer r.streamMu.Unlock()
	return r.stream
}

func (r *Runtime) sandboxRoot() string             { return filepath.Join(r.cfg.StateDir, "sandboxes") }
func (r *Runtime) sandboxDir(id string) string     { return filepath.Join(r.sandboxRoot(), id) }
func (r *Runtime) containerRoot() string           { return filepath.Join(r.cfg.StateDir, "containers") }
func (r *Runtime) containerDir(id string) string   { return filepath.Join(r.containerRoot(), id) }
func (r *Runtime) shimDir(sandboxID string) string { return filepath.Join(r.cfg.RunDir, sandboxID) }
