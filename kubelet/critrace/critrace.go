// Package critrace gives the calls to a container runtime in the same process the
// spans that they have over a socket, where gRPC makes them.
package critrace

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/cluster/tracing"
)

// Runtime traces what is done to sandboxes and containers, and what is asked of them;
// the rest is the service's own.
type Runtime struct{ internalapi.RuntimeService }

// Images traces what is done to images.
type Images struct {
	internalapi.ImageManagerService
}

const (
	runtimeService = "runtime.v1.RuntimeService"
	imageService   = "runtime.v1.ImageService"
)

// call is a call with a span, if what makes it has one.
func call[T any](ctx context.Context, service, method string, do func(context.Context) (T, error)) (T, error) {
	ctx, end := tracing.Start(ctx, service+"/"+method, attribute.String("rpc.service", service), attribute.String("rpc.method", method))
	out, err := do(ctx)
	end(err)
	return out, err
}

// act is call for what answers nothing.
func act(ctx context.Context, service, method string, do func(context.Context) error) error {
	_, err := call(ctx, service, method, func(ctx context.Context) (struct{}, error) { return struct{}{}, do(ctx) })
	return err
}

// RunPodSandbox implements internalapi.RuntimeService.
func (r Runtime) RunPodSandbox(ctx context.Context, config *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	return call(ctx, runtimeService, "RunPodSandbox", func(ctx context.Context) (string, error) {
		return r.RuntimeService.RunPodSandbox(ctx, config, handler)
	})
}

// StopPodSandbox implements internalapi.RuntimeService.
func (r Runtime) StopPodSandbox(ctx context.Context, id string) error {
	return act(ctx, runtimeService, "StopPodSandbox", func(ctx context.Context) error { return r.RuntimeService.StopPodSandbox(ctx, id) })
}

// RemovePodSandbox implements internalapi.RuntimeService.
func (r Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	return act(ctx, runtimeService, "RemovePodSandbox", func(ctx context.Context) error { return r.RuntimeService.RemovePodSandbox(ctx, id) })
}

// PodSandboxStatus implements internalapi.RuntimeService.
func (r Runtime) PodSandboxStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	return call(ctx, runtimeService, "PodSandboxStatus", func(ctx context.Context) (*runtimeapi.PodSandboxStatusResponse, error) {
		return r.RuntimeService.PodSandboxStatus(ctx, id, verbose)
	})
}

// ListPodSandbox implements internalapi.RuntimeService.
func (r Runtime) ListPodSandbox(ctx context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	return call(ctx, runtimeService, "ListPodSandbox", func(ctx context.Context) ([]*runtimeapi.PodSandbox, error) {
		return r.RuntimeService.ListPodSandbox(ctx, filter)
	})
}

// UpdatePodSandboxResources implements internalapi.RuntimeService.
func (r Runtime) UpdatePodSandboxResources(ctx context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return call(ctx, runtimeService, "UpdatePodSandboxResources", func(ctx context.Context) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
		return r.RuntimeService.UpdatePodSandboxResources(ctx, req)
	})
}

// CreateContainer implements internalapi.RuntimeService.
func (r Runtime) CreateContainer(ctx context.Context, sandbox string, config *runtimeapi.ContainerConfig, sandboxConfig *runtimeapi.PodSandboxConfig) (string, error) {
	return call(ctx, runtimeService, "CreateContainer", func(ctx context.Context) (string, error) {
		return r.RuntimeService.CreateContainer(ctx, sandbox, config, sandboxConfig)
	})
}

// StartContainer implements internalapi.RuntimeService.
func (r Runtime) StartContainer(ctx context.Context, id string) error {
	return act(ctx, runtimeService, "StartContainer", func(ctx context.Context) error { return r.RuntimeService.StartContainer(ctx, id) })
}

// StopContainer implements internalapi.RuntimeService.
func (r Runtime) StopContainer(ctx context.Context, id string, timeout int64) error {
	return act(ctx, runtimeService, "StopContainer", func(ctx context.Context) error { return r.RuntimeService.StopContainer(ctx, id, timeout) })
}

// RemoveContainer implements internalapi.RuntimeService.
func (r Runtime) RemoveContainer(ctx context.Context, id string) error {
	return act(ctx, runtimeService, "RemoveContainer", func(ctx context.Context) error { return r.RuntimeService.RemoveContainer(ctx, id) })
}

// ListContainers implements internalapi.RuntimeService.
func (r Runtime) ListContainers(ctx context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	return call(ctx, runtimeService, "ListContainers", func(ctx context.Context) ([]*runtimeapi.Container, error) {
		return r.RuntimeService.ListContainers(ctx, filter)
	})
}

// ContainerStatus implements internalapi.RuntimeService.
func (r Runtime) ContainerStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.ContainerStatusResponse, error) {
	return call(ctx, runtimeService, "ContainerStatus", func(ctx context.Context) (*runtimeapi.ContainerStatusResponse, error) {
		return r.RuntimeService.ContainerStatus(ctx, id, verbose)
	})
}

// UpdateContainerResources implements internalapi.RuntimeService.
func (r Runtime) UpdateContainerResources(ctx context.Context, id string, resources *runtimeapi.ContainerResources) error {
	return act(ctx, runtimeService, "UpdateContainerResources", func(ctx context.Context) error {
		return r.RuntimeService.UpdateContainerResources(ctx, id, resources)
	})
}

// ExecSync implements internalapi.RuntimeService.
func (r Runtime) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (stdout, stderr []byte, err error) {
	err = act(ctx, runtimeService, "ExecSync", func(ctx context.Context) error {
		stdout, stderr, err = r.RuntimeService.ExecSync(ctx, id, cmd, timeout)
		return err
	})
	return stdout, stderr, err
}

// PullImage implements internalapi.ImageManagerService.
func (i Images) PullImage(ctx context.Context, image *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	return call(ctx, imageService, "PullImage", func(ctx context.Context) (string, error) {
		return i.ImageManagerService.PullImage(ctx, image, auth, sandbox)
	})
}

// ImageStatus implements internalapi.ImageManagerService.
func (i Images) ImageStatus(ctx context.Context, image *runtimeapi.ImageSpec, verbose bool) (*runtimeapi.ImageStatusResponse, error) {
	return call(ctx, imageService, "ImageStatus", func(ctx context.Context) (*runtimeapi.ImageStatusResponse, error) {
		return i.ImageManagerService.ImageStatus(ctx, image, verbose)
	})
}

// RemoveImage implements internalapi.ImageManagerService.
func (i Images) RemoveImage(ctx context.Context, image *runtimeapi.ImageSpec) error {
	return act(ctx, imageService, "RemoveImage", func(ctx context.Context) error { return i.ImageManagerService.RemoveImage(ctx, image) })
}
