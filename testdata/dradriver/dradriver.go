// Package dradriver is a DRA driver for tests: its devices are names, and a
// container that gets some of them finds the names of the devices, in variables
// that CDI descriptions add.
package dradriver

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"google.golang.org/grpc"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	healthv1 "k8s.io/kubelet/pkg/apis/dra-health/v1"
	drav1 "k8s.io/kubelet/pkg/apis/dra/v1"
	drav1beta1 "k8s.io/kubelet/pkg/apis/dra/v1beta1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Driver prepares the devices of claims.
type Driver struct {
	drav1.UnimplementedDRAPluginServer
	healthv1.UnimplementedDRAResourceHealthServer
	registration.UnimplementedRegistrationServer

	// Name is the driver's, such as toys.example.com.
	Name string
	// Kubelet is the kubelet's folder, and CDI that of CDI descriptions.
	Kubelet, CDI string
	Client       kubernetes.Interface
	// Beta makes it speak only the first beta of the service.
	Beta bool

	mu       sync.Mutex // guards what follows
	prepared map[string]bool
	health   map[string]healthv1.HealthStatus
	changed  chan struct{} // closed when health changes
	refuse   error
}

// Prepared are the UIDs of the claims that are prepared.
func (d *Driver) Prepared() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for uid := range d.prepared {
		out = append(out, uid)
	}
	return out
}

// Refuse makes it fail to prepare claims; nil ends that.
func (d *Driver) Refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = err
}

// SetHealth reports how a device, POOL/NAME, is.
func (d *Driver) SetHealth(device string, status healthv1.HealthStatus) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.health == nil {
		d.health = map[string]healthv1.HealthStatus{}
	}
	d.health[device] = status
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

// Publish offers devices of a node.
func (d *Driver) Publish(ctx context.Context, node string, devices ...string) error {
	s := &resourceapi.ResourceSlice{ObjectMeta: metav1.ObjectMeta{Name: node + "-" + d.Name}}
	s.Spec = resourceapi.ResourceSliceSpec{Driver: d.Name, NodeName: &node, Pool: resourceapi.ResourcePool{Name: node, ResourceSliceCount: 1}}
	for _, name := range devices {
		s.Spec.Devices = append(s.Spec.Devices, resourceapi.Device{Name: name})
	}
	_, err := d.Client.ResourceV1().ResourceSlices().Create(ctx, s, metav1.CreateOptions{})
	return err
}

// Start serves the driver where the kubelet looks for plugins. The returned
// function ends it, and takes its sockets away.
func (d *Driver) Start() (stop func(), err error) {
	dir := filepath.Join(d.Kubelet, "plugins", d.Name)
	registry := filepath.Join(d.Kubelet, "plugins_registry")
	for _, each := range []string{dir, registry, d.CDI} {
		if err := os.MkdirAll(each, 0o755); err != nil {
			return nil, err
		}
	}
	service, err := listen(filepath.Join(dir, "dra.sock"))
	if err != nil {
		return nil, err
	}
	register, err := listen(filepath.Join(registry, d.Name+"-reg.sock"))
	if err != nil {
		service.Close()
		return nil, err
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, d)
	healthv1.RegisterDRAResourceHealthServer(server, d)
	if d.Beta {
		drav1beta1.RegisterDRAPluginServer(server, drav1beta1.V1ServerWrapper{DRAPluginServer: d})
	} else {
		drav1.RegisterDRAPluginServer(server, d)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(service) })
	wg.Go(func() { _ = server.Serve(register) })
	return sync.OnceFunc(func() { server.Stop(); wg.Wait() }), nil
}

func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// GetInfo implements the registration.
func (d *Driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	versions := []string{drav1.DRAPluginService, healthv1.DRAResourceHealthService}
	if d.Beta {
		versions[0] = drav1beta1.DRAPluginService
	}
	return &registration.PluginInfo{Type: registration.DRAPlugin, Name: d.Name, Endpoint: filepath.Join(d.Kubelet, "plugins", d.Name, "dra.sock"), SupportedVersions: versions}, nil
}

// NotifyRegistrationStatus implements the registration.
func (d *Driver) NotifyRegistrationStatus(context.Context, *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	return &registration.RegistrationStatusResponse{}, nil
}

// NodePrepareResources implements the driver's service.
func (d *Driver) NodePrepareResources(ctx context.Context, r *drav1.NodePrepareResourcesRequest) (*drav1.NodePrepareResourcesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &drav1.NodePrepareResourcesResponse{Claims: map[string]*drav1.NodePrepareResourceResponse{}}
	for _, c := range r.Claims {
		devices, err := d.prepare(ctx, c)
		if err == nil {
			err = d.refuse
		}
		answer := &drav1.NodePrepareResourceResponse{Devices: devices}
		if err != nil {
			answer.Error = err.Error()
		}
		out.Claims[c.Uid] = answer
	}
	return out, nil
}

func (d *Driver) prepare(ctx context.Context, c *drav1.Claim) ([]*drav1.Device, error) {
	claim, err := d.Client.ResourceV1().ResourceClaims(c.Namespace).Get(ctx, c.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	kind := d.Name + "/claim"
	type edits struct {
		Env []string `json:"env"`
	}
	type described struct {
		Name  string `json:"name"`
		Edits edits  `json:"containerEdits"`
	}
	var out []*drav1.Device
	var list []described
	for _, r := range claim.Status.Allocation.Devices.Results {
		if r.Driver != d.Name {
			continue
		}
		id := c.Uid + "-" + r.Device
		name := "TOY_" + strings.ToUpper(strings.NewReplacer("-", "_", "/", "_").Replace(r.Request))
		list = append(list, described{id, edits{[]string{name + "=" + r.Device}}})
		out = append(out, &drav1.Device{RequestNames: []string{r.Request}, PoolName: r.Pool, DeviceName: r.Device, CdiDeviceIds: []string{kind + "=" + id}})
	}
	data, err := json.Marshal(map[string]any{"cdiVersion": "0.6.0", "kind": kind, "devices": list})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.description(c.Uid), data, 0o644); err != nil {
		return nil, err
	}
	if d.prepared == nil {
		d.prepared = map[string]bool{}
	}
	d.prepared[c.Uid] = true
	return out, nil
}

func (d *Driver) description(uid string) string {
	return filepath.Join(d.CDI, fmt.Sprintf("%s-%s.json", d.Name, uid))
}

// NodeUnprepareResources implements the driver's service.
func (d *Driver) NodeUnprepareResources(_ context.Context, r *drav1.NodeUnprepareResourcesRequest) (*drav1.NodeUnprepareResourcesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &drav1.NodeUnprepareResourcesResponse{Claims: map[string]*drav1.NodeUnprepareResourceResponse{}}
	for _, c := range r.Claims {
		out.Claims[c.Uid] = &drav1.NodeUnprepareResourceResponse{}
		if err := os.Remove(d.description(c.Uid)); err != nil && !os.IsNotExist(err) {
			out.Claims[c.Uid].Error = err.Error()
			continue
		}
		delete(d.prepared, c.Uid)
	}
	return out, nil
}

// NodeWatchResources implements the health service.
func (d *Driver) NodeWatchResources(_ *healthv1.NodeWatchResourcesRequest, s grpc.ServerStreamingServer[healthv1.NodeWatchResourcesResponse]) error {
	for {
		d.mu.Lock()
		report := &healthv1.NodeWatchResourcesResponse{}
		for device, status := range d.health {
			pool, name, _ := strings.Cut(device, "/")
			report.Devices = append(report.Devices, &healthv1.DeviceHealth{Device: &healthv1.DeviceIdentifier{PoolName: pool, DeviceName: name}, Health: status, Message: "it is " + status.String(), HealthCheckTimeoutSeconds: 600})
		}
		if d.changed == nil {
			d.changed = make(chan struct{})
		}
		changed := d.changed
		d.mu.Unlock()
		if err := s.Send(report); err != nil {
			return err
		}
		select {
		case <-s.Context().Done():
			return nil
		case <-changed:
		}
	}
}
