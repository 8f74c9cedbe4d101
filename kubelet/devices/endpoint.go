package devices

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// callTime bounds a call to a plugin: one that hangs may hold up the admission
// of pods, but not for ever.
const callTime = pluginapi.KubeletPreStartContainerRPCTimeoutInSecs * time.Second

// endpoint is one registered plugin.
type endpoint struct {
	resource, socket string
	conn             *grpc.ClientConn
	client           pluginapi.DevicePluginClient
	options          *pluginapi.DevicePluginOptions
	stop             context.CancelFunc
}

// watch passes every list of devices on until the stream ends.
func (e *endpoint) watch(ctx context.Context, listed func([]*pluginapi.Device)) error {
	// A plugin may register just before it serves.
	stream, err := e.client.ListAndWatch(ctx, &pluginapi.Empty{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		listed(answer.Devices)
	}
}

func (e *endpoint) allocate(ctx context.Context, ids []string) (*pluginapi.ContainerAllocateResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := e.client.Allocate(ctx, &pluginapi.AllocateRequest{ContainerRequests: []*pluginapi.ContainerAllocateRequest{{DevicesIds: ids}}})
	if err != nil {
		return nil, err
	}
	if len(answer.ContainerResponses) == 0 {
		return nil, fmt.Errorf("no containers return in allocation response %v", answer)
	}
	return answer.ContainerResponses[0], nil
}

// prefer asks which of the available devices go best together.
func (e *endpoint) prefer(ctx context.Context, available, must set, size int) (set, error) {
	if !e.options.GetPreferredAllocationAvailable {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := e.client.GetPreferredAllocation(ctx, &pluginapi.PreferredAllocationRequest{ContainerRequests: []*pluginapi.ContainerPreferredAllocationRequest{{
		AvailableDeviceIDs: available.list(), MustIncludeDeviceIDs: must.list(), AllocationSize: int32(size),
	}}})
	if err != nil {
		return nil, fmt.Errorf("device plugin GetPreferredAllocation rpc failed with err: %w", err)
	}
	if len(answer.ContainerResponses) == 0 {
		return nil, nil
	}
	return setOf(answer.ContainerResponses[0].DeviceIDs), nil
}

func (e *endpoint) preStart(ctx context.Context, ids []string) error {
	if !e.options.PreStartRequired {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if _, err := e.client.PreStartContainer(ctx, &pluginapi.PreStartContainerRequest{DevicesIds: ids}); err != nil {
		return fmt.Errorf("device plugin PreStartContainer rpc failed with err: %w", err)
	}
	return nil
}

// listed takes a plugin's new list of devices.
func (m *Manager) listed(e *endpoint, list []*pluginapi.Device) {
	m.mu.Lock()
	r := m.resources[e.resource]
	if r == nil || r.endpoint != e {
		m.mu.Unlock()
		return
	}
	r.gone = time.Time{}
	before := r.devices
	r.devices = map[string]*pluginapi.Device{}
	changed := set{}
	for _, d := range list {
		r.devices[d.ID] = d
		if old := before[d.ID]; old == nil || old.Health != d.Health {
			changed[d.ID] = true
		}
	}
	// A pod's device that the list has no more counts too.
	for id := range before {
		if r.devices[id] == nil {
			changed[id] = true
		}
	}
	if len(changed) > 0 {
		if err := m.save(); err != nil {
			klog.Background().Info("Writing the device checkpoint failed", "resource", e.resource, "err", err)
		}
	}
	m.tell(e.resource, changed)
}

// left marks the devices of a plugin that went away.
func (m *Manager) left(e *endpoint) {
	m.mu.Lock()
	r := m.resources[e.resource]
	if r == nil || r.endpoint != e {
		m.mu.Unlock()
		return
	}
	r.gone = time.Now()
	changed := set{}
	for id, d := range r.devices {
		if d.Health == pluginapi.Healthy {
			r.devices[id] = &pluginapi.Device{ID: id, Health: pluginapi.Unhealthy, Topology: d.Topology}
			changed[id] = true
		}
	}
	m.tell(e.resource, changed)
}

// tell lets go of the lock, and tells of devices whose health changed.
func (m *Manager) tell(name string, changed set) {
	pods := m.book.holders(name, changed)
	m.mu.Unlock()
	m.cfg.Changed()
	for _, uid := range pods {
		m.cfg.Notify(uid)
	}
}
