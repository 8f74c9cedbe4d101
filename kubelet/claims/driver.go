package claims

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/klog/v2"
	healthv1 "k8s.io/kubelet/pkg/apis/dra-health/v1"
	drav1 "k8s.io/kubelet/pkg/apis/dra/v1"
	drav1beta1 "k8s.io/kubelet/pkg/apis/dra/v1beta1"

	"skiff/kubelet/pluginwatch"
)

// driver is a registered one.
type driver struct {
	name, socket string
	conn         *grpc.ClientConn
	api          drav1.DRAPluginClient
	stop         context.CancelFunc
}

// older speaks to drivers of the first beta, whose messages are the same.
type older struct{ api drav1beta1.DRAPluginClient }

// NodePrepareResources implements the client.
func (o older) NodePrepareResources(ctx context.Context, in *drav1.NodePrepareResourcesRequest, opts ...grpc.CallOption) (*drav1.NodePrepareResourcesResponse, error) {
	var request drav1beta1.NodePrepareResourcesRequest
	if err := drav1beta1.Convert_v1_NodePrepareResourcesRequest_To_v1beta1_NodePrepareResourcesRequest(in, &request, nil); err != nil {
		return nil, err
	}
	answer, err := o.api.NodePrepareResources(ctx, &request, opts...)
	if err != nil {
		return nil, err
	}
	out := &drav1.NodePrepareResourcesResponse{}
	return out, drav1beta1.Convert_v1beta1_NodePrepareResourcesResponse_To_v1_NodePrepareResourcesResponse(answer, out, nil)
}

// NodeUnprepareResources implements the client.
func (o older) NodeUnprepareResources(ctx context.Context, in *drav1.NodeUnprepareResourcesRequest, opts ...grpc.CallOption) (*drav1.NodeUnprepareResourcesResponse, error) {
	var request drav1beta1.NodeUnprepareResourcesRequest
	if err := drav1beta1.Convert_v1_NodeUnprepareResourcesRequest_To_v1beta1_NodeUnprepareResourcesRequest(in, &request, nil); err != nil {
		return nil, err
	}
	answer, err := o.api.NodeUnprepareResources(ctx, &request, opts...)
	if err != nil {
		return nil, err
	}
	out := &drav1.NodeUnprepareResourcesResponse{}
	return out, drav1beta1.Convert_v1beta1_NodeUnprepareResourcesResponse_To_v1_NodeUnprepareResourcesResponse(answer, out, nil)
}

// versions are those of the service that can be used, the best first. Older
// drivers name a version of their own instead.
func versions() []string {
	return []string{drav1.DRAPluginService, drav1beta1.DRAPluginService}
}

// chosen is the best version that a driver has, empty for none.
func chosen(supported []string) string {
	for _, v := range versions() {
		if slices.Contains(supported, v) {
			return v
		}
	}
	return ""
}

type handler struct{ m *Manager }

// Handler is what the plugin watcher calls.
func (m *Manager) Handler() pluginwatch.Handler { return handler{m} }

// Validate implements pluginwatch.Handler.
func (handler) Validate(info pluginwatch.Info) error {
	if chosen(info.Versions) == "" {
		return fmt.Errorf("none of the DRA gRPC interfaces advertised by plugin %q are supported: %s; want %s", info.Name, strings.Join(info.Versions, ", "), strings.Join(versions(), " or "))
	}
	return nil
}

// Register implements pluginwatch.Handler. A driver that is replaced stays until
// its own socket goes: the newest is used.
func (h handler) Register(_ context.Context, info pluginwatch.Info) error {
	conn, err := pluginwatch.Dial(info.Endpoint)
	if err != nil {
		return err
	}
	d := &driver{name: info.Name, socket: info.Socket, conn: conn, api: drav1.NewDRAPluginClient(conn)}
	if chosen(info.Versions) == drav1beta1.DRAPluginService {
		d.api = older{drav1beta1.NewDRAPluginClient(conn)}
	}
	m := h.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx == nil {
		_ = conn.Close()
		return fmt.Errorf("the kubelet is ending; register with the next one")
	}
	ctx, cancel := context.WithCancel(m.ctx)
	d.stop = cancel
	m.remove(info)
	m.drivers[info.Name] = append(m.drivers[info.Name], d)
	if stop := m.wipes[info.Name]; stop != nil {
		stop()
		delete(m.wipes, info.Name)
	}
	watched := slices.Contains(info.Versions, healthv1.DRAResourceHealthService)
	m.group.Go(func() {
		if watched {
			m.watchHealth(ctx, d)
		}
		<-ctx.Done()
		_ = conn.Close()
	})
	klog.FromContext(m.ctx).Info("A DRA driver registered", "driver", info.Name, "socket", info.Endpoint)
	return nil
}

// remove leaves the driver of a socket; the caller holds the lock.
func (m *Manager) remove(info pluginwatch.Info) {
	m.drivers[info.Name] = slices.DeleteFunc(m.drivers[info.Name], func(d *driver) bool {
		if d.socket != info.Socket {
			return false
		}
		d.stop()
		return true
	})
	if len(m.drivers[info.Name]) == 0 {
		delete(m.drivers, info.Name)
	}
}

// Deregister implements pluginwatch.Handler.
func (h handler) Deregister(info pluginwatch.Info) {
	m := h.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(info)
	if len(m.drivers[info.Name]) == 0 {
		m.wipeLater(info.Name)
	}
}

// driver finds the one in use.
func (m *Manager) driver(name string) (*driver, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.drivers[name]
	if len(list) == 0 {
		return nil, fmt.Errorf("DRA driver %s is not registered", name)
	}
	return list[len(list)-1], nil
}

// wipeLater deletes the ResourceSlices of a driver, or of all that are not
// registered, when the grace is over; the caller holds the lock.
func (m *Manager) wipeLater(name string) {
	if m.ctx == nil || m.wipes[name] != nil {
		return
	}
	ctx, cancel := context.WithCancel(m.ctx)
	m.wipes[name] = cancel
	m.group.Go(func() {
		defer cancel()
		for wait := m.cfg.Grace; sleep(ctx, wait); wait = m.cfg.Grace {
			if err := m.wipe(ctx, name); err == nil {
				break
			} else if ctx.Err() == nil {
				klog.FromContext(ctx).Info("Deleting ResourceSlices of drivers that are gone failed, will try again", "driver", name, "err", err)
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if ctx.Err() == nil {
			delete(m.wipes, name)
		}
	})
}

// wipe deletes what drivers that are gone offered on this node, so that nothing
// of it is given out.
func (m *Manager) wipe(ctx context.Context, name string) error {
	selector := fields.Set{"spec.nodeName": m.cfg.NodeName}
	if name != "" {
		selector["spec.driver"] = name
	}
	client := m.cfg.Client.ResourceV1().ResourceSlices()
	list, err := client.List(ctx, metav1.ListOptions{FieldSelector: selector.String()})
	if err != nil {
		return err
	}
	for i := range list.Items {
		slice := &list.Items[i]
		if slice.Spec.NodeName == nil || *slice.Spec.NodeName != m.cfg.NodeName || name != "" && slice.Spec.Driver != name {
			continue
		}
		if _, err := m.driver(slice.Spec.Driver); err == nil {
			continue
		}
		if err := client.Delete(ctx, slice.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(slice.UID))}); err != nil {
			return err
		}
	}
	return nil
}
