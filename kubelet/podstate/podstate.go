// Package podstate is the runtime's view of pods: what sandboxes and
// containers of a pod exist right now, read from CRI, and the events that say
// which pod to look at again. It decides nothing.
package podstate

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelettypes "k8s.io/kubelet/pkg/types"
)

// State is a container's state, as CRI names it.
type State = runtimeapi.ContainerState

// The states of a container.
const (
	Created = runtimeapi.ContainerState_CONTAINER_CREATED
	Running = runtimeapi.ContainerState_CONTAINER_RUNNING
	Exited  = runtimeapi.ContainerState_CONTAINER_EXITED
	Unknown = runtimeapi.ContainerState_CONTAINER_UNKNOWN
)

// Pod is what the runtime holds of one pod.
type Pod struct {
	UID       types.UID
	Namespace string
	Name      string
	// Sandboxes and Containers are sorted newest first.
	Sandboxes  []Sandbox
	Containers []Container
	// ReadAt is when reading began.
	ReadAt time.Time
}

// Sandbox is one sandbox of a pod.
type Sandbox struct {
	ID             string
	Attempt        uint32
	Ready          bool
	CreatedAt      time.Time
	IPs            []string
	HostNetwork    bool
	RuntimeHandler string
}

// Container is one instance of one of a pod's containers.
type Container struct {
	ID           string
	Name         string
	SandboxID    string
	State        State
	CreatedAt    time.Time
	StartedAt    time.Time
	FinishedAt   time.Time
	ExitCode     int32
	Reason       string
	Message      string
	Image        string
	ImageID      string
	ImageRef     string
	Hash         string
	RestartCount int
	LogPath      string
	Annotations  map[string]string
	Mounts       []*runtimeapi.Mount
	Resources    *runtimeapi.LinuxContainerResources
	User         *runtimeapi.LinuxContainerUser
	StopSignal   runtimeapi.Signal
}

// Latest returns the newest instance of the named container, or nil.
func (p *Pod) Latest(name string) *Container {
	if p == nil {
		return nil
	}
	for i := range p.Containers {
		if p.Containers[i].Name == name {
			return &p.Containers[i]
		}
	}
	return nil
}

// Instances returns all instances of the named container, newest first.
func (p *Pod) Instances(name string) []*Container {
	if p == nil {
		return nil
	}
	var out []*Container
	for i := range p.Containers {
		if p.Containers[i].Name == name {
			out = append(out, &p.Containers[i])
		}
	}
	return out
}

// ByID returns the container with the identifier, or nil.
func (p *Pod) ByID(id string) *Container {
	if p == nil {
		return nil
	}
	for i := range p.Containers {
		if p.Containers[i].ID == id {
			return &p.Containers[i]
		}
	}
	return nil
}

// Running returns the containers that run, newest first.
func (p *Pod) Running() []*Container {
	if p == nil {
		return nil
	}
	var out []*Container
	for i := range p.Containers {
		if p.Containers[i].State == Running {
			out = append(out, &p.Containers[i])
		}
	}
	return out
}

// ReadySandbox returns the newest sandbox if it is ready, else nil.
func (p *Pod) ReadySandbox() *Sandbox {
	if p == nil || len(p.Sandboxes) == 0 || !p.Sandboxes[0].Ready {
		return nil
	}
	return &p.Sandboxes[0]
}

// Active reports whether anything of the pod runs.
func (p *Pod) Active() bool {
	if p == nil {
		return false
	}
	for i := range p.Sandboxes {
		if p.Sandboxes[i].Ready {
			return true
		}
	}
	for i := range p.Containers {
		if p.Containers[i].State == Running || p.Containers[i].State == Unknown {
			return true
		}
	}
	return false
}

// IsNotFound reports whether the runtime says that what was asked for is gone.
func IsNotFound(err error) bool {
	return status.Code(err) == codes.NotFound
}

// Read asks the runtime for everything of one pod. What vanishes between the
// list and the look is left out.
func Read(ctx context.Context, runtime internalapi.RuntimeService, uid types.UID) (*Pod, error) {
	pod := &Pod{UID: uid, ReadAt: time.Now()}
	selector := map[string]string{kubelettypes.KubernetesPodUIDLabel: string(uid)}
	sandboxes, err := runtime.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes of pod %s: %w", uid, err)
	}
	containers, err := runtime.ListContainers(ctx, &runtimeapi.ContainerFilter{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("list containers of pod %s: %w", uid, err)
	}
	for _, s := range sandboxes {
		pod.Namespace, pod.Name = s.Metadata.GetNamespace(), s.Metadata.GetName()
		resp, err := runtime.PodSandboxStatus(ctx, s.Id, false)
		if IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("status of sandbox %s: %w", s.Id, err)
		}
		pod.Sandboxes = append(pod.Sandboxes, sandboxOf(resp.GetStatus()))
	}
	for _, c := range containers {
		pod.Namespace, pod.Name = c.Labels[kubelettypes.KubernetesPodNamespaceLabel], c.Labels[kubelettypes.KubernetesPodNameLabel]
		resp, err := runtime.ContainerStatus(ctx, c.Id, false)
		if IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("status of container %s: %w", c.Id, err)
		}
		pod.Containers = append(pod.Containers, containerOf(resp.GetStatus(), c.PodSandboxId))
	}
	sort.SliceStable(pod.Sandboxes, func(i, j int) bool {
		return pod.Sandboxes[i].CreatedAt.After(pod.Sandboxes[j].CreatedAt)
	})
	sort.SliceStable(pod.Containers, func(i, j int) bool {
		return pod.Containers[i].CreatedAt.After(pod.Containers[j].CreatedAt)
	})
	return pod, nil
}

func sandboxOf(s *runtimeapi.PodSandboxStatus) Sandbox {
	out := Sandbox{
		ID:             s.GetId(),
		Attempt:        s.GetMetadata().GetAttempt(),
		Ready:          s.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY,
		CreatedAt:      atNanos(s.GetCreatedAt()),
		HostNetwork:    s.GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE,
		RuntimeHandler: s.GetRuntimeHandler(),
	}
	if ip := s.GetNetwork().GetIp(); ip != "" {
		out.IPs = append(out.IPs, ip)
	}
	for _, extra := range s.GetNetwork().GetAdditionalIps() {
		out.IPs = append(out.IPs, extra.GetIp())
	}
	return out
}

func containerOf(c *runtimeapi.ContainerStatus, sandboxID string) Container {
	restarts, err := strconv.Atoi(c.Annotations[AnnotationRestartCount])
	if err != nil {
		restarts = int(c.GetMetadata().GetAttempt())
	}
	name := c.Labels[kubelettypes.KubernetesContainerNameLabel]
	if name == "" {
		name = c.GetMetadata().GetName()
	}
	out := Container{
		ID:           c.Id,
		Name:         name,
		SandboxID:    sandboxID,
		State:        c.State,
		CreatedAt:    atNanos(c.CreatedAt),
		ExitCode:     c.ExitCode,
		Reason:       c.Reason,
		Message:      c.Message,
		Image:        c.GetImage().GetImage(),
		ImageID:      c.ImageId,
		ImageRef:     c.ImageRef,
		Hash:         c.Annotations[AnnotationHash],
		RestartCount: restarts,
		LogPath:      c.LogPath,
		Annotations:  c.Annotations,
		Mounts:       c.Mounts,
		Resources:    c.GetResources().GetLinux(),
		User:         c.GetUser().GetLinux(),
		StopSignal:   c.StopSignal,
	}
	if c.State != Created {
		out.StartedAt = atNanos(c.StartedAt)
	}
	if c.State == Exited {
		out.FinishedAt = atNanos(c.FinishedAt)
	}
	return out
}
