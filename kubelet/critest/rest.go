package critest

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func clone[T proto.Message](m T) T { return proto.Clone(m).(T) }

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// StopContainer implements internalapi.RuntimeService.
func (r *Runtime) StopContainer(_ context.Context, id string, timeout int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return nil
	}
	r.calls = append(r.calls, fmt.Sprintf("StopContainer %s %d", c.Config.Metadata.Name, timeout))
	var p Process
	if r.Script != nil {
		p = r.Script(c.Config)
	}
	code := int32(143)
	if p.IgnoreTerm || timeout == 0 {
		code = 137
	}
	r.exit(c, code, "")
	return nil
}

// RemoveContainer implements internalapi.RuntimeService.
func (r *Runtime) RemoveContainer(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		r.calls = append(r.calls, "RemoveContainer "+c.Config.Metadata.Name)
		r.exit(c, 137, "")
		delete(r.containers, id)
		r.emit(c, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	}
	return nil
}

// ListContainers implements internalapi.RuntimeService.
func (r *Runtime) ListContainers(_ context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*runtimeapi.Container
	for id, c := range r.containers {
		if filter.GetId() != "" && filter.GetId() != id || !matches(filter.GetLabelSelector(), c.Config.Labels) ||
			filter.GetPodSandboxId() != "" && filter.GetPodSandboxId() != c.SandboxID {
			continue
		}
		if st := filter.GetState(); st != nil && st.State != c.Status.State {
			continue
		}
		out = append(out, &runtimeapi.Container{
			Id: id, PodSandboxId: c.SandboxID, Metadata: c.Config.Metadata, Image: c.Config.Image, ImageRef: c.Status.ImageRef,
			State: c.Status.State, CreatedAt: c.Status.CreatedAt, Labels: c.Config.Labels, Annotations: c.Config.Annotations,
			ImageId: c.Status.ImageId,
		})
	}
	return out, nil
}

// ContainerStatus implements internalapi.RuntimeService.
func (r *Runtime) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return nil, notFound("container", id)
	}
	return &runtimeapi.ContainerStatusResponse{Status: clone(c.Status)}, nil
}

// UpdateContainerResources implements internalapi.RuntimeService.
func (r *Runtime) UpdateContainerResources(_ context.Context, id string, res *runtimeapi.ContainerResources) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return notFound("container", id)
	}
	r.calls = append(r.calls, "UpdateContainerResources "+c.Config.Metadata.Name)
	now := c.Status.Resources.GetLinux()
	if now == nil {
		c.Status.Resources = clone(res)
		return nil
	}
	now = clone(now)
	if l := res.GetLinux(); l != nil {
		if l.CpuShares != 0 {
			now.CpuShares = l.CpuShares
		}
		if l.CpuQuota != 0 {
			now.CpuQuota, now.CpuPeriod = l.CpuQuota, l.CpuPeriod
		}
		if l.CpusetCpus != "" {
			now.CpusetCpus = l.CpusetCpus
		}
		if l.MemoryLimitInBytes != 0 {
			now.MemoryLimitInBytes = l.MemoryLimitInBytes
		}
	}
	c.Status.Resources = &runtimeapi.ContainerResources{Linux: now}
	return nil
}

// ExecSync implements internalapi.RuntimeService.
func (r *Runtime) ExecSync(_ context.Context, id string, cmd []string, _ time.Duration) (stdout, stderr []byte, err error) {
	r.mu.Lock()
	c, exec := r.containers[id], r.ExecFunc
	r.mu.Unlock()
	if c == nil {
		return nil, nil, notFound("container", id)
	}
	if exec == nil {
		return nil, nil, nil
	}
	return exec(c.Config.Metadata.Name, cmd)
}

// Exec implements internalapi.RuntimeService.
func (r *Runtime) Exec(context.Context, *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return &runtimeapi.ExecResponse{Url: r.StreamURL}, nil
}

// Attach implements internalapi.RuntimeService.
func (r *Runtime) Attach(context.Context, *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return &runtimeapi.AttachResponse{Url: r.StreamURL}, nil
}

// PortForward implements internalapi.RuntimeService.
func (r *Runtime) PortForward(context.Context, *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	return &runtimeapi.PortForwardResponse{Url: r.StreamURL}, nil
}

// ReopenContainerLog implements internalapi.RuntimeService.
func (r *Runtime) ReopenContainerLog(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return notFound("container", id)
	}
	r.calls = append(r.calls, "ReopenContainerLog "+c.Config.Metadata.Name)
	return appendLog(c.Status.LogPath, "reopened")
}

// CheckpointContainer implements internalapi.RuntimeService.
func (r *Runtime) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) error {
	return nil
}

// CheckpointPod implements internalapi.RuntimeService.
func (r *Runtime) CheckpointPod(context.Context, *runtimeapi.CheckpointPodRequest) error { return nil }

// RestorePod implements internalapi.RuntimeService.
func (r *Runtime) RestorePod(context.Context, *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return &runtimeapi.RestorePodResponse{}, nil
}

// GetContainerEvents implements internalapi.RuntimeService.
func (r *Runtime) GetContainerEvents(ctx context.Context, events chan *runtimeapi.ContainerEventResponse, connected func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	r.mu.Lock()
	r.streams = append(r.streams, events)
	r.mu.Unlock()
	if connected != nil {
		connected(nil)
	}
	<-ctx.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range r.streams {
		if s == events {
			r.streams = append(r.streams[:i:i], r.streams[i+1:]...)
			break
		}
	}
	return ctx.Err()
}

// UpdatePodSandboxResources implements internalapi.RuntimeService.
func (r *Runtime) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

// Version implements internalapi.RuntimeService.
func (r *Runtime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "critest", RuntimeVersion: "1.0.0", RuntimeApiVersion: "v1"}, nil
}

// Status implements internalapi.RuntimeService.
func (r *Runtime) Status(context.Context, bool) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
			{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true},
		}},
		RuntimeHandlers: []*runtimeapi.RuntimeHandler{{Name: "", Features: &runtimeapi.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true}}},
		Features:        &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true},
	}, nil
}

// RuntimeConfig implements internalapi.RuntimeService.
func (r *Runtime) RuntimeConfig(context.Context) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS}}, nil
}

// UpdateRuntimeConfig implements internalapi.RuntimeService.
func (r *Runtime) UpdateRuntimeConfig(context.Context, *runtimeapi.RuntimeConfig) error { return nil }

// Close implements both services.
func (r *Runtime) Close(context.Context) error { return nil }

// ContainerStats implements internalapi.RuntimeService.
func (r *Runtime) ContainerStats(_ context.Context, id string) (*runtimeapi.ContainerStats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return nil, notFound("container", id)
	}
	return r.stats(c), nil
}

func (r *Runtime) stats(c *Container) *runtimeapi.ContainerStats {
	now := time.Now().UnixNano()
	return &runtimeapi.ContainerStats{
		Attributes:    &runtimeapi.ContainerAttributes{Id: c.Status.Id, Metadata: c.Config.Metadata, Labels: c.Config.Labels, Annotations: c.Config.Annotations},
		Cpu:           &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: 2e9}, UsageNanoCores: &runtimeapi.UInt64Value{Value: 1e7}},
		Memory:        &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: &runtimeapi.UInt64Value{Value: 64 << 20}, UsageBytes: &runtimeapi.UInt64Value{Value: 80 << 20}, RssBytes: &runtimeapi.UInt64Value{Value: 32 << 20}},
		WritableLayer: &runtimeapi.FilesystemUsage{Timestamp: now, UsedBytes: &runtimeapi.UInt64Value{Value: 4096}, InodesUsed: &runtimeapi.UInt64Value{Value: 3}},
	}
}

// ListContainerStats implements internalapi.RuntimeService.
func (r *Runtime) ListContainerStats(context.Context, *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*runtimeapi.ContainerStats
	for _, c := range r.containers {
		if c.Status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			out = append(out, r.stats(c))
		}
	}
	return out, nil
}

// PodSandboxStats implements internalapi.RuntimeService.
func (r *Runtime) PodSandboxStats(_ context.Context, id string) (*runtimeapi.PodSandboxStats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[id]
	if s == nil {
		return nil, notFound("sandbox", id)
	}
	return r.podStats(id, s), nil
}

func (r *Runtime) podStats(id string, s *Sandbox) *runtimeapi.PodSandboxStats {
	out := &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{Id: id, Metadata: s.Config.Metadata, Labels: s.Config.Labels, Annotations: s.Config.Annotations},
		Linux: &runtimeapi.LinuxPodSandboxStats{
			Process: &runtimeapi.ProcessUsage{ProcessCount: &runtimeapi.UInt64Value{Value: 1}},
			Network: &runtimeapi.NetworkUsage{DefaultInterface: &runtimeapi.NetworkInterfaceUsage{Name: "eth0", RxBytes: &runtimeapi.UInt64Value{Value: 100}, TxBytes: &runtimeapi.UInt64Value{Value: 200}}},
		},
	}
	for _, c := range r.containers {
		if c.SandboxID == id && c.Status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			out.Linux.Containers = append(out.Linux.Containers, r.stats(c))
		}
	}
	return out
}

// ListPodSandboxStats implements internalapi.RuntimeService.
func (r *Runtime) ListPodSandboxStats(context.Context, *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*runtimeapi.PodSandboxStats
	for id, s := range r.sandboxes {
		if s.Status.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			out = append(out, r.podStats(id, s))
		}
	}
	return out, nil
}

// ListMetricDescriptors implements internalapi.RuntimeService.
func (r *Runtime) ListMetricDescriptors(context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	return nil, nil
}

// ListPodSandboxMetrics implements internalapi.RuntimeService.
func (r *Runtime) ListPodSandboxMetrics(context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	return nil, nil
}

// ListImages implements internalapi.ImageManagerService.
func (r *Runtime) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*runtimeapi.Image
	for _, i := range r.images {
		out = append(out, i)
	}
	return out, nil
}

// ImageStatus implements internalapi.ImageManagerService.
func (r *Runtime) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, i := range r.images {
		if name == spec.Image || i.Id == spec.Image {
			return &runtimeapi.ImageStatusResponse{Image: i}, nil
		}
	}
	return &runtimeapi.ImageStatusResponse{}, nil
}

// PullImage implements internalapi.ImageManagerService.
func (r *Runtime) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, "PullImage "+spec.Image)
	if r.PullError != nil {
		if err := r.PullError(spec.Image); err != nil {
			return "", err
		}
	}
	r.images[spec.Image] = image(spec.Image)
	return r.images[spec.Image].Id, nil
}

// RemoveImage implements internalapi.ImageManagerService.
func (r *Runtime) RemoveImage(_ context.Context, spec *runtimeapi.ImageSpec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, i := range r.images {
		if name == spec.Image || i.Id == spec.Image {
			delete(r.images, name)
		}
	}
	return nil
}

// ImageFsInfo implements internalapi.ImageManagerService.
func (r *Runtime) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	fs := &runtimeapi.FilesystemUsage{FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: "/"}, UsedBytes: &runtimeapi.UInt64Value{Value: 1 << 20}, InodesUsed: &runtimeapi.UInt64Value{Value: 10}}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{fs}, ContainerFilesystems: []*runtimeapi.FilesystemUsage{fs}}, nil
}
