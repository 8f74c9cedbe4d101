package devices

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"skiff/kubelet/pluginwatch"
	"skiff/kubelet/resources"
)

// Register implements the service that plugins call.
func (m *Manager) Register(_ context.Context, r *pluginapi.RegisterRequest) (*pluginapi.Empty, error) {
	if err := validate(r.ResourceName, []string{r.Version}); err != nil {
		return &pluginapi.Empty{}, err
	}
	if !filepath.IsLocal(r.Endpoint) {
		return &pluginapi.Empty{}, fmt.Errorf("endpoint %q: want the name of a socket in %s", r.Endpoint, m.cfg.Dir)
	}
	options := r.Options
	if options == nil {
		options = &pluginapi.DevicePluginOptions{}
	}
	return &pluginapi.Empty{}, m.connect(r.ResourceName, filepath.Join(m.cfg.Dir, r.Endpoint), options)
}

func validate(name string, versions []string) error {
	if !slices.ContainsFunc(versions, func(v string) bool { return slices.Contains(pluginapi.SupportedVersions[:], v) }) {
		return fmt.Errorf("requested API version %q is not supported by kubelet. Supported version is %q", strings.Join(versions, ","), pluginapi.SupportedVersions)
	}
	if !resources.Extended(v1.ResourceName(name)) {
		return fmt.Errorf("the ResourceName %q is invalid", name)
	}
	return nil
}

// connect begins to follow a plugin. One that served the resource before is
// left.
func (m *Manager) connect(name, socket string, options *pluginapi.DevicePluginOptions) error {
	conn, err := pluginwatch.Dial(socket)
	if err != nil {
		return err
	}
	if err := reach(conn, socket); err != nil {
		return errors.Join(err, conn.Close())
	}
	e := &endpoint{resource: name, socket: socket, conn: conn, client: pluginapi.NewDevicePluginClient(conn), options: options}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx == nil {
		_ = conn.Close()
		return fmt.Errorf("the kubelet is ending; register with the next one")
	}
	log := klog.FromContext(m.ctx)
	ctx, cancel := context.WithCancel(m.ctx)
	e.stop = cancel
	r := m.resources[name]
	if r == nil {
		r = &resource{devices: map[string]*pluginapi.Device{}}
		m.resources[name] = r
	}
	if r.endpoint != nil {
		r.endpoint.stop()
	}
	r.endpoint = e
	log.Info("A device plugin registered", "resource", name, "socket", socket)
	m.group.Go(func() {
		defer func() { _ = conn.Close() }()
		err := e.watch(ctx, func(list []*pluginapi.Device) { m.listed(e, list) })
		m.left(e)
		if ctx.Err() == nil {
			log.Info("A device plugin went away", "resource", name, "socket", socket, "err", err)
		}
	})
	return nil
}

// dialTime bounds the wait for a plugin that registers just before it serves.
const dialTime = 10 * time.Second

// reach connects to a plugin. One whose socket is not there is told at once: the
// kubelet removed it when it started, and the plugin has to make another.
func reach(conn *grpc.ClientConn, socket string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	conn.Connect()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		_, err := os.Stat(socket)
		if err == nil && !conn.WaitForStateChange(ctx, state) {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("failed to dial device plugin with socketPath %s: %w", socket, err)
		}
	}
}

// watched takes the plugins that the plugin watcher found.
type watched struct{ m *Manager }

// Handler is what the plugin watcher calls.
func (m *Manager) Handler() pluginwatch.Handler { return watched{m} }

// Validate implements pluginwatch.Handler.
func (w watched) Validate(info pluginwatch.Info) error { return validate(info.Name, info.Versions) }

// Register implements pluginwatch.Handler. The plugin itself tells its options.
func (w watched) Register(ctx context.Context, info pluginwatch.Info) error {
	conn, err := pluginwatch.Dial(info.Endpoint)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	options, err := pluginapi.NewDevicePluginClient(conn).GetDevicePluginOptions(ctx, &pluginapi.Empty{})
	if err != nil {
		return fmt.Errorf("failed to get device plugin options: %w", err)
	}
	return w.m.connect(info.Name, info.Endpoint, options)
}

// Deregister implements pluginwatch.Handler.
func (w watched) Deregister(info pluginwatch.Info) {
	m := w.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.resources[info.Name]; r != nil && r.endpoint != nil && r.endpoint.socket == info.Endpoint {
		r.endpoint.stop()
	}
}
