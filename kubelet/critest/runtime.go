// Package critest is a container runtime for tests: it holds the state that a
// real one would, enforces the order of calls that CRI demands, emits
// container events, and lets a test script what processes do. It runs nothing.
package critest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var (
	_ internalapi.RuntimeService      = (*Runtime)(nil)
	_ internalapi.ImageManagerService = (*Runtime)(nil)
)

// Process scripts what a started container does.
type Process struct {
	// Exit, when set, makes the container exit at once with this code.
	Exit *int32
	// Output is written to the container's log when it starts.
	Output string
	// IgnoreTerm makes StopContainer wait out its whole timeout (it returns at
	// once, and counts as killed).
	IgnoreTerm bool
	// StartError makes StartContainer fail.
	StartError error
}

// Sandbox is a sandbox and the configuration that it was made from.
type Sandbox struct {
	Config  *runtimeapi.PodSandboxConfig
	Handler string
	Status  *runtimeapi.PodSandboxStatus
}

// Container is a container and the configuration that it was made from.
type Container struct {
	SandboxID string
	Config    *runtimeapi.ContainerConfig
	Status    *runtimeapi.ContainerStatus
}

// Runtime is the runtime and the image service.
type Runtime struct {
	// Script returns what a container does when it starts; nil means that
	// every container runs until it is stopped.
	Script func(*runtimeapi.ContainerConfig) Process
	// ExecFunc answers ExecSync; nil means success without output.
	ExecFunc func(container string, cmd []string) (stdout, stderr []byte, err error)
	// PullError, when set, fails pulls of the image.
	PullError func(image string) error
	// StreamURL is what Exec, Attach and PortForward answer.
	StreamURL string

	mu         sync.Mutex // guards what follows
	sandboxes  map[string]*Sandbox
	containers map[string]*Container
	images     map[string]*runtimeapi.Image
	streams    []chan *runtimeapi.ContainerEventResponse
	calls      []string
	next       int
	clock      int64
}

// New returns an empty runtime that holds the given images.
func New(images ...string) *Runtime {
	r := &Runtime{
		sandboxes:  map[string]*Sandbox{},
		containers: map[string]*Container{},
		images:     map[string]*runtimeapi.Image{},
	}
	for _, name := range images {
		r.images[name] = image(name)
	}
	return r
}

func image(name string) *runtimeapi.Image {
	return &runtimeapi.Image{
		Id: "sha256:" + name, RepoTags: []string{name}, Size: 1 << 20, Uid: &runtimeapi.Int64Value{Value: 0},
		RepoDigests: []string{name + "@sha256:0"}, Spec: &runtimeapi.ImageSpec{Image: name},
	}
}

// Calls returns the state-changing calls so far.
func (r *Runtime) Calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.calls...)
}

// ContainerNamed returns the newest container with the name.
func (r *Runtime) ContainerNamed(name string) *Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found *Container
	for _, c := range r.containers {
		if c.Config.Metadata.Name == name && (found == nil || c.Status.CreatedAt > found.Status.CreatedAt) {
			found = c
		}
	}
	return found
}

// SandboxOf returns the sandbox with the identifier.
func (r *Runtime) SandboxOf(id string) *Sandbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sandboxes[id]
}

// Crash ends a running container as if its process had exited.
func (r *Runtime) Crash(id string, code int32, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exit(r.containers[id], code, reason)
}

// now is strictly increasing, so that creation order is total. Caller holds mu.
func (r *Runtime) now() int64 {
	r.clock = max(r.clock+1, time.Now().UnixNano())
	return r.clock
}

// Caller holds mu.
func (r *Runtime) id(kind string) string {
	r.next++
	return fmt.Sprintf("%s%063d", kind, r.next)
}

// emit sends an event for the container to all streams. Caller holds mu.
func (r *Runtime) emit(c *Container, kind runtimeapi.ContainerEventType) {
	event := &runtimeapi.ContainerEventResponse{
		ContainerId: c.Status.Id, ContainerEventType: kind, CreatedAt: r.now(),
	}
	if s := r.sandboxes[c.SandboxID]; s != nil {
		event.PodSandboxStatus = s.Status
	}
	for _, stream := range r.streams {
		select {
		case stream <- event:
		default:
		}
	}
}

// exit marks the container as exited. Caller holds mu.
func (r *Runtime) exit(c *Container, code int32, reason string) {
	if c == nil || c.Status.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		return
	}
	if reason == "" {
		reason = "Completed"
		if code != 0 {
			reason = "Error"
		}
	}
	c.Status.State = runtimeapi.ContainerState_CONTAINER_EXITED
	c.Status.ExitCode, c.Status.Reason, c.Status.FinishedAt = code, reason, r.now()
	r.emit(c, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

func notFound(kind, id string) error {
	return status.Errorf(codes.NotFound, "%s %q not found", kind, id)
}

// RunPodSandbox implements internalapi.RuntimeService.
func (r *Runtime) RunPodSandbox(_ context.Context, config *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, "RunPodSandbox "+config.Metadata.Name)
	id := r.id("s")
	ip := fmt.Sprintf("10.88.%d.%d", r.next/250, r.next%250+1)
	ns := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	network := &runtimeapi.PodSandboxNetworkStatus{Ip: ip}
	if ns.GetNetwork() == runtimeapi.NamespaceMode_NODE {
		network = &runtimeapi.PodSandboxNetworkStatus{}
	}
	r.sandboxes[id] = &Sandbox{Config: config, Handler: handler, Status: &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: config.Metadata, State: runtimeapi.PodSandboxState_SANDBOX_READY, CreatedAt: r.now(),
		Network: network, Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: ns}},
		Labels: config.Labels, Annotations: config.Annotations, RuntimeHandler: handler,
	}}
	return id, nil
}

// StopPodSandbox implements internalapi.RuntimeService.
func (r *Runtime) StopPodSandbox(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[id]
	if s == nil {
		return nil
	}
	r.calls = append(r.calls, "StopPodSandbox "+s.Config.Metadata.Name)
	for _, c := range r.containers {
		if c.SandboxID == id {
			r.exit(c, 137, "")
		}
	}
	s.Status.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	return nil
}

// RemovePodSandbox implements internalapi.RuntimeService.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	if err := r.StopPodSandbox(ctx, id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for cid, c := range r.containers {
		if c.SandboxID == id {
			delete(r.containers, cid)
		}
	}
	delete(r.sandboxes, id)
	return nil
}

// PodSandboxStatus implements internalapi.RuntimeService.
func (r *Runtime) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[id]
	if s == nil {
		return nil, notFound("sandbox", id)
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: clone(s.Status)}, nil
}

// ListPodSandbox implements internalapi.RuntimeService.
func (r *Runtime) ListPodSandbox(_ context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*runtimeapi.PodSandbox
	for id, s := range r.sandboxes {
		if filter.GetId() != "" && filter.GetId() != id || !matches(filter.GetLabelSelector(), s.Config.Labels) {
			continue
		}
		if st := filter.GetState(); st != nil && st.State != s.Status.State {
			continue
		}
		out = append(out, &runtimeapi.PodSandbox{
			Id: id, Metadata: s.Config.Metadata, State: s.Status.State, CreatedAt: s.Status.CreatedAt,
			Labels: s.Config.Labels, Annotations: s.Config.Annotations, RuntimeHandler: s.Handler,
		})
	}
	return out, nil
}

// CreateContainer implements internalapi.RuntimeService.
func (r *Runtime) CreateContainer(_ context.Context, sandboxID string, config *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[sandboxID]
	if s == nil {
		return "", notFound("sandbox", sandboxID)
	}
	r.calls = append(r.calls, "CreateContainer "+config.Metadata.Name)
	id := r.id("c")
	st := &runtimeapi.ContainerStatus{
		Id: id, Metadata: config.Metadata, State: runtimeapi.ContainerState_CONTAINER_CREATED, CreatedAt: r.now(),
		Image: &runtimeapi.ImageSpec{Image: cmp.Or(config.Image.GetUserSpecifiedImage(), config.Image.GetImage())}, ImageRef: config.Image.GetImage(), ImageId: config.Image.GetImage(), Labels: config.Labels,
		Annotations: config.Annotations, Mounts: config.Mounts,
		Resources: &runtimeapi.ContainerResources{Linux: config.GetLinux().GetResources()},
	}
	if config.LogPath != "" {
		st.LogPath = filepath.Join(s.Config.LogDirectory, config.LogPath)
	}
	c := &Container{SandboxID: sandboxID, Config: config, Status: st}
	r.containers[id] = c
	r.emit(c, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	return id, nil
}

// StartContainer implements internalapi.RuntimeService.
func (r *Runtime) StartContainer(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return notFound("container", id)
	}
	r.calls = append(r.calls, "StartContainer "+c.Config.Metadata.Name)
	if c.Status.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		return fmt.Errorf("container %q is not in created state", id)
	}
	var p Process
	if r.Script != nil {
		p = r.Script(c.Config)
	}
	if p.StartError != nil {
		r.exit(c, 128, "StartError")
		c.Status.Message = p.StartError.Error()
		return p.StartError
	}
	c.Status.State, c.Status.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, r.now()
	if p.Output != "" && c.Status.LogPath != "" {
		if err := appendLog(c.Status.LogPath, p.Output); err != nil {
			return err
		}
	}
	r.emit(c, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	if p.Exit != nil {
		r.exit(c, *p.Exit, "")
	}
	return nil
}

func appendLog(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s stdout F %s\n", time.Now().Format(time.RFC3339Nano), text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
