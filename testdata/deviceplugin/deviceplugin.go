// Package deviceplugin is a device plugin for tests: its devices are names, and
// a container that gets some of them finds the names in a variable, /dev/toy,
// and what the CDI descriptions of the devices say, if there are any.
package deviceplugin

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Plugin offers the devices of one resource.
type Plugin struct {
	pluginapi.UnimplementedDevicePluginServer

	// Resource is its name, such as example.com/toy.
	Resource string
	// Dir is the kubelet's folder of device plugins.
	Dir string
	// CDI makes the plugin name devices of CDI.
	CDI bool

	mu      sync.Mutex // guards what follows
	devices []*pluginapi.Device
	changed chan struct{} // closed when devices change
	started []string
}

// Device makes a device, near the given NUMA nodes.
func Device(id, health string, nodes ...int64) *pluginapi.Device {
	d := &pluginapi.Device{ID: id, Health: health}
	for _, n := range nodes {
		if d.Topology == nil {
			d.Topology = &pluginapi.TopologyInfo{}
		}
		d.Topology.Nodes = append(d.Topology.Nodes, &pluginapi.NUMANode{ID: n})
	}
	return d
}

// Set replaces the devices.
func (p *Plugin) Set(devices ...*pluginapi.Device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices = devices
	if p.changed != nil {
		close(p.changed)
	}
	p.changed = make(chan struct{})
}

// Started are the devices that PreStartContainer was called for.
func (p *Plugin) Started() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.started)
}

// Start serves the plugin and registers it, again when the kubelet that started
// meanwhile removed its socket. The returned function ends it.
func (p *Plugin) Start(ctx context.Context) (stop func(), err error) {
	for range 5 {
		if stop, err = p.start(ctx); err == nil {
			break
		}
	}
	return stop, err
}

func (p *Plugin) start(ctx context.Context) (stop func(), err error) {
	name := strings.ReplaceAll(p.Resource, "/", "-") + ".sock"
	socket := filepath.Join(p.Dir, name)
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	pluginapi.RegisterDevicePluginServer(server, p)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	stop = sync.OnceFunc(func() { server.Stop(); wg.Wait() })
	err = Register(ctx, p.Dir, &pluginapi.RegisterRequest{
		Version: pluginapi.Version, Endpoint: name, ResourceName: p.Resource,
		Options: &pluginapi.DevicePluginOptions{PreStartRequired: true, GetPreferredAllocationAvailable: true},
	})
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// Register calls the kubelet, as soon as it answers.
func Register(ctx context.Context, dir string, r *pluginapi.RegisterRequest) error {
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err = pluginapi.NewRegistrationClient(conn).Register(ctx, r, grpc.WaitForReady(true))
	return err
}

// GetDevicePluginOptions implements the plugin's service.
func (p *Plugin) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	return &pluginapi.DevicePluginOptions{PreStartRequired: true, GetPreferredAllocationAvailable: true}, nil
}

// ListAndWatch implements the plugin's service.
func (p *Plugin) ListAndWatch(_ *pluginapi.Empty, s grpc.ServerStreamingServer[pluginapi.ListAndWatchResponse]) error {
	for {
		p.mu.Lock()
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		devices, changed := p.devices, p.changed
		p.mu.Unlock()
		if err := s.Send(&pluginapi.ListAndWatchResponse{Devices: devices}); err != nil {
			return err
		}
		select {
		case <-s.Context().Done():
			return nil
		case <-changed:
		}
	}
}

// GetPreferredAllocation prefers the last ones.
func (p *Plugin) GetPreferredAllocation(_ context.Context, r *pluginapi.PreferredAllocationRequest) (*pluginapi.PreferredAllocationResponse, error) {
	out := &pluginapi.PreferredAllocationResponse{}
	for _, c := range r.ContainerRequests {
		list := c.AvailableDeviceIDs
		if int(c.AllocationSize) > len(list) {
			return nil, fmt.Errorf("asked for %d of %v", c.AllocationSize, list)
		}
		out.ContainerResponses = append(out.ContainerResponses, &pluginapi.ContainerPreferredAllocationResponse{DeviceIDs: list[len(list)-int(c.AllocationSize):]})
	}
	return out, nil
}

// Allocate implements the plugin's service.
func (p *Plugin) Allocate(_ context.Context, r *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	out := &pluginapi.AllocateResponse{}
	for _, c := range r.ContainerRequests {
		answer := &pluginapi.ContainerAllocateResponse{
			Envs:        map[string]string{"TOYS": strings.Join(c.DevicesIds, ",")},
			Annotations: map[string]string{"example.com/toys": strings.Join(c.DevicesIds, ",")},
			Devices:     []*pluginapi.DeviceSpec{{ContainerPath: "/dev/toy", HostPath: "/dev/zero", Permissions: "rw"}},
		}
		for _, id := range c.DevicesIds {
			if p.CDI {
				answer.CdiDevices = append(answer.CdiDevices, &pluginapi.CDIDevice{Name: p.Resource + "=" + id})
			}
		}
		out.ContainerResponses = append(out.ContainerResponses, answer)
	}
	return out, nil
}

// PreStartContainer implements the plugin's service.
func (p *Plugin) PreStartContainer(_ context.Context, r *pluginapi.PreStartContainerRequest) (*pluginapi.PreStartContainerResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started = append(p.started, r.DevicesIds...)
	return &pluginapi.PreStartContainerResponse{}, nil
}
