package cri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/cri/images"
	"skiff/kubelet/cri/shimapi"
	"skiff/kubelet/stopsignal"
)

// container is one container.
//
//	created -> running -> exited
//	    \________________/
type container struct {
	id      string
	dir     string
	cfg     *runtimeapi.ContainerConfig
	sandbox *sandbox
	created int64         // copy of the record's
	done    chan struct{} // closed when it has exited

	// op is held by start and remove.
	op sync.Mutex

	mu        sync.Mutex
	rec       containerRecord // guarded by mu, as all below
	making    bool            // not told to anyone yet
	pid       int
	startedAt time.Time
	exit      *shimapi.Exit
}

func (c *container) record() containerRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec
}

// change edits the record and writes it before anyone sees it.
func (c *container) change(edit func(*containerRecord)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.rec
	edit(&next)
	if err := writeRecord(c.dir, next); err != nil {
		return err
	}
	c.rec = next
	return nil
}

func (c *container) state() runtimeapi.ContainerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stateLocked()
}

func (c *container) stateLocked() runtimeapi.ContainerState {
	switch {
	case c.exit != nil:
		return runtimeapi.ContainerState_CONTAINER_EXITED
	case c.pid != 0:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return runtimeapi.ContainerState_CONTAINER_CREATED
}

// started notes that the container runs, unless it is known to have ended.
func (c *container) started(pid int, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exit == nil {
		c.pid, c.startedAt = pid, at
	}
}

// ended notes the container's end and tells whether that is news.
func (c *container) ended(exit *shimapi.Exit) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exit != nil {
		return false
	}
	c.exit = exit
	if !exit.StartedAt.IsZero() {
		c.startedAt = exit.StartedAt
	}
	close(c.done)
	return true
}

func (c *container) running() error {
	if s := c.state(); s != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return fmt.Errorf("container is in %s state", s)
	}
	return nil
}

func (c *container) status() *runtimeapi.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	image := proto.Clone(c.cfg.Image).(*runtimeapi.ImageSpec)
	if c.rec.ImageName != "" {
		image.Image = c.rec.ImageName
	} else if u := image.GetUserSpecifiedImage(); u != "" {
		image.Image = u
	}
	st := &runtimeapi.ContainerStatus{
		Id: c.id, Metadata: c.cfg.Metadata, State: c.stateLocked(), CreatedAt: c.rec.CreatedAt,
		Image: image, ImageRef: c.rec.ImageRef, ImageId: c.rec.ImageID,
		Labels: c.cfg.Labels, Annotations: c.cfg.Annotations, Mounts: c.cfg.Mounts, LogPath: c.rec.LogPath,
		Resources: &runtimeapi.ContainerResources{Linux: c.resourcesLocked()},
	}
	st.StopSignal = stopsignal.ToCRI(c.rec.Stop)
	if u := c.rec.User; u != nil {
		st.User = &runtimeapi.ContainerUser{Linux: &runtimeapi.LinuxContainerUser{Uid: u.UID, Gid: u.GID, SupplementalGroups: u.Groups}}
	}
	if !c.startedAt.IsZero() {
		st.StartedAt = c.startedAt.UnixNano()
	}
	if e := c.exit; e != nil {
		st.FinishedAt, st.ExitCode, st.Reason, st.Message = e.FinishedAt.UnixNano(), int32(e.ExitCode), e.Reason, e.Message
		if st.Reason == "" {
			switch {
			case e.OOMKilled:
				st.Reason = "OOMKilled"
			case e.ExitCode == 0:
				st.Reason = "Completed"
			default:
				st.Reason = "Error"
			}
		}
	}
	return st
}

func (c *container) resourcesLocked() *runtimeapi.LinuxContainerResources {
	if len(c.rec.Resources) > 0 {
		if res, err := decode[runtimeapi.LinuxContainerResources](c.rec.Resources); err == nil {
			return res
		}
	}
	return c.cfg.GetLinux().GetResources()
}

func (r *Runtime) container(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		if full, ok := unique(r.containers, id); ok {
			c = r.containers[full]
		}
	}
	if c == nil || c.making {
		return nil, notFound("container", id)
	}
	return c, nil
}

// containersOf lists a sandbox's containers in the order they were created.
func (r *Runtime) containersOf(sandboxID string) []*container {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*container
	for _, c := range r.containers {
		if c.sandbox.id == sandboxID && !c.making {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *container) int { return cmp.Compare(a.created, b.created) })
	return out
}

// CreateContainer implements RuntimeService.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, cfg *runtimeapi.ContainerConfig, sandboxCfg *runtimeapi.PodSandboxConfig) (string, error) {
	sb, err := r.sandbox(sandboxID)
	if err != nil {
		return "", err
	}
	if sb.phase() != phaseReady {
		return "", coded(fmt.Errorf("sandbox %q is not running", sb.id))
	}
	if cfg.GetMetadata() == nil || cfg.GetImage() == nil {
		return "", invalid("container config must include metadata and image")
	}
	image, err := r.images.Get(cfg.Image.Image)
	if err != nil {
		return "", coded(fmt.Errorf("failed to resolve image %q: %w", cfg.Image.Image, err))
	}
	id := newID()
	name := containerName(cfg.Metadata, sb.id)
	if err := r.reserve(name, id); err != nil {
		return "", coded(err)
	}
	data, err := proto.Marshal(cfg)
	if err != nil {
		r.unreserve(name, id)
		return "", coded(err)
	}
	c := &container{id: id, dir: r.containerDir(id), cfg: cfg, sandbox: sb, created: time.Now().UnixNano(), done: make(chan struct{}), making: true}
	c.rec = containerRecord{
		ID: id, SandboxID: sb.id, Config: data, CreatedAt: c.created,
		ImageID: image.ID, ImageRef: image.ID, Layers: slices.Clone(image.Layers), Removing: true,
	}
	if len(image.Digests) > 0 {
		c.rec.ImageRef = image.Digests[0]
	}
	c.rec.ImageName = tagged(image, cfg.Image)
	if cfg.LogPath != "" && sb.cfg.LogDirectory != "" {
		c.rec.LogPath = filepath.Join(sb.cfg.LogDirectory, cfg.LogPath)
	}
	// Known from here on, so that no one sweeps its layers away.
	r.mu.Lock()
	r.containers[id] = c
	r.mu.Unlock()
	pod := sb.cfg
	if sandboxCfg != nil {
		pod = sandboxCfg
	}
	err = r.makeContainer(c, image, pod.GetLinux().GetSecurityContext().GetPrivileged())
	if err != nil {
		err = errors.Join(fmt.Errorf("failed to create container %q: %w", cfg.Metadata.Name, err), removeFolder(c.dir))
		r.mu.Lock()
		delete(r.containers, id)
		r.mu.Unlock()
		r.unreserve(name, id)
		return "", coded(err)
	}
	r.mu.Lock()
	c.making = false
	r.mu.Unlock()
	r.emit(id, sb, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	return id, nil
}

// StartContainer implements RuntimeService.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	c, err := r.container(id)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if s := c.state(); s != runtimeapi.ContainerState_CONTAINER_CREATED {
		return coded(fmt.Errorf("container %q is in %s state", c.id, s))
	}
	if c.sandbox.phase() != phaseReady {
		return coded(fmt.Errorf("sandbox container %q is not running", c.sandbox.id))
	}
	if err := ctx.Err(); err != nil {
		return coded(fmt.Errorf("failed to start container %q: %w", c.id, err))
	}
	if err := c.change(func(rec *containerRecord) { rec.Started = true }); err != nil {
		return coded(err)
	}
	rec := c.record()
	// A start that has begun is not given up with its caller: the shim would go
	// on with it, and nobody would know of the container.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startPatience)
	defer cancel()
	info, err := c.sandbox.shim.Start(ctx, c.id, shimapi.Start{
		Dir: c.dir, LogPath: rec.LogPath, Terminal: c.cfg.Tty, Stdin: c.cfg.Stdin, StdinOnce: c.cfg.StdinOnce, Systemd: r.cfg.SystemdCgroups,
	})
	if err != nil && ctx.Err() != nil {
		// The shim may be starting it; the watch tells when it ends.
		if kerr := c.sandbox.shim.Signal(context.WithoutCancel(ctx), c.id, unix.SIGKILL, true); kerr == nil {
			err = fmt.Errorf("%w; the container was ended", err)
		}
	}
	if err != nil {
		now := time.Now()
		werr := c.change(func(rec *containerRecord) { rec.StartError, rec.FailedAt = err.Error(), now.UnixNano() })
		c.ended(startFailure(err.Error(), now))
		r.emit(c.id, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
		return coded(errors.Join(fmt.Errorf("failed to start container %q: %w", c.cfg.GetMetadata().GetName(), err), werr))
	}
	c.started(info.Pid, info.StartedAt)
	r.emit(c.id, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return nil
}

const (
	// startPatience is how long a shim may take to start a container.
	startPatience = 2 * time.Minute
	// killPatience is how long the end of a killed container is waited for.
	killPatience = 2 * time.Minute
)

// ListContainers implements RuntimeService.
func (r *Runtime) ListContainers(_ context.Context, f *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	r.mu.Lock()
	all := make([]*container, 0, len(r.containers))
	for _, c := range r.containers {
		if !c.making {
			all = append(all, c)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b *container) int { return cmp.Compare(a.created, b.created) })
	sandboxID := f.GetPodSandboxId()
	var out []*runtimeapi.Container
	for _, c := range all {
		state := c.state()
		if f.GetId() != "" && !strings.HasPrefix(c.id, f.Id) || sandboxID != "" && !strings.HasPrefix(c.sandbox.id, sandboxID) ||
			f.GetState() != nil && f.State.State != state || !selects(f.GetLabelSelector(), c.cfg.Labels) {
			continue
		}
		rec := c.record()
		out = append(out, &runtimeapi.Container{
			Id: c.id, PodSandboxId: c.sandbox.id, Metadata: c.cfg.Metadata, Image: c.cfg.Image, ImageRef: rec.ImageRef, ImageId: rec.ImageID,
			State: state, CreatedAt: rec.CreatedAt, Labels: c.cfg.Labels, Annotations: c.cfg.Annotations,
		})
	}
	return out, nil
}

// ContainerStatus implements RuntimeService.
func (r *Runtime) ContainerStatus(_ context.Context, id string, verbose bool) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, err
	}
	out := &runtimeapi.ContainerStatusResponse{Status: c.status()}
	out.Status.Mounts = r.namedImages(out.Status.Mounts)
	if verbose {
		c.mu.Lock()
		out.Info = map[string]string{"info": fmt.Sprintf(`{"sandboxID":%q,"pid":%d}`, c.sandbox.id, c.pid)}
		c.mu.Unlock()
	}
	return out, nil
}

// tagged is the name by which an image is told: the one that was asked for, with
// its registry and tag, where the image has it, or its first.
func tagged(image *images.Image, asked *runtimeapi.ImageSpec) string {
	if len(image.Tags) == 0 {
		return ""
	}
	for _, name := range []string{asked.GetUserSpecifiedImage(), asked.GetImage()} {
		if full, err := images.Normalize(name); err == nil && slices.Contains(image.Tags, full) {
			return full
		}
	}
	return image.Tags[0]
}

// namedImages tells mounted images by their digests, as ImageRef does for the
// container's own.
func (r *Runtime) namedImages(mounts []*runtimeapi.Mount) []*runtimeapi.Mount {
	out := slices.Clone(mounts)
	for i, m := range out {
		if m.GetImage().GetImage() == "" {
			continue
		}
		image, err := r.images.Get(m.Image.Image)
		if err != nil || len(image.Digests) == 0 {
			continue
		}
		named := proto.Clone(m).(*runtimeapi.Mount)
		named.Image.Image = image.Digests[0]
		out[i] = named
	}
	return out
}

// UpdateContainerResources implements RuntimeService.
func (r *Runtime) UpdateContainerResources(ctx context.Context, id string, res *runtimeapi.ContainerResources) error {
	c, err := r.container(id)
	if err != nil {
		return err
	}
	want := res.GetLinux()
	if want == nil {
		return nil
	}
	c.op.Lock()
	defer c.op.Unlock()
	c.mu.Lock()
	merged := mergeResources(c.resourcesLocked(), want)
	c.mu.Unlock()
	switch c.state() {
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		return coded(fmt.Errorf("container %q has exited", c.id))
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		if err := c.sandbox.shim.Update(ctx, c.id, r.layout.resources(want)); err != nil {
			return coded(fmt.Errorf("failed to update resources of container %q: %w", c.id, err))
		}
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		if err := r.layout.updateConfig(c.dir, merged); err != nil {
			return coded(err)
		}
	}
	data, err := proto.Marshal(merged)
	if err != nil {
		return coded(err)
	}
	return coded(c.change(func(rec *containerRecord) { rec.Resources = data }))
}

// mergeResources lays the limits that want sets over those that are in force.
func mergeResources(now, want *runtimeapi.LinuxContainerResources) *runtimeapi.LinuxContainerResources {
	out := &runtimeapi.LinuxContainerResources{}
	if now != nil {
		out = proto.Clone(now).(*runtimeapi.LinuxContainerResources)
	}
	proto.Merge(out, &runtimeapi.LinuxContainerResources{
		CpuPeriod: want.CpuPeriod, CpuQuota: want.CpuQuota, CpuShares: want.CpuShares,
		MemoryLimitInBytes: want.MemoryLimitInBytes, MemorySwapLimitInBytes: want.MemorySwapLimitInBytes,
		CpusetCpus: want.CpusetCpus, CpusetMems: want.CpusetMems, OomScoreAdj: want.OomScoreAdj, Unified: want.Unified,
	})
	if len(want.HugepageLimits) > 0 {
		out.HugepageLimits = want.HugepageLimits
	}
	return out
}

// ReopenContainerLog implements RuntimeService.
func (r *Runtime) ReopenContainerLog(ctx context.Context, id string) error {
	c, err := r.container(id)
	if err != nil {
		return err
	}
	if err := c.running(); err != nil {
		return coded(err)
	}
	return coded(c.sandbox.shim.ReopenLog(ctx, c.id))
}
