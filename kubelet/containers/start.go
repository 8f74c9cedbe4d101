package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/bounded"
	"skiff/kubelet/environment"
	"skiff/kubelet/images"
	"skiff/kubelet/podstate"
	"skiff/kubelet/resources"
	"skiff/kubelet/stopsignal"
)

// Reasons for which a container waits, beside those of images.
const (
	ReasonCrashLoop    = "CrashLoopBackOff"
	ReasonConfig       = "CreateContainerConfigError"
	ReasonCreate       = "CreateContainerError"
	ReasonPreStart     = "PreStartHookError"
	ReasonRun          = "RunContainerError"
	ReasonPostStart    = "PostStartHookError"
	ReasonInvalidImage = "InvalidImageName"
)

// starter starts containers of one pod in one sandbox.
type starter struct {
	m         *Manager
	pod       *v1.Pod
	state     *podstate.Pod
	secrets   []v1.Secret
	sandboxID string
	sandbox   *runtimeapi.PodSandboxConfig
	handler   string
	podIPs    []string
	out       *Outcome
}

// failure is a failed step with the reason that the status shows.
type failure struct{ reason, message string }

// kindSandbox is the kind of a pod's sandbox.
const kindSandbox = "sandbox"

func (m *Manager) onStart(kind, failure string) {
	if m.cfg.OnStart != nil {
		m.cfg.OnStart(kind, failure)
	}
}

// start starts one container; false means that it did not start.
func (s *starter) start(ctx context.Context, c *v1.Container, target, kind string) bool {
	m, uid := s.m, s.pod.UID
	last := s.state.Latest(c.Name)
	if wait, delayed := s.backOff(c, lastExited(s.state, c.Name)); delayed {
		s.out.retryIn(wait)
		return false
	}
	s.out.Changed = true
	m.onStart(kind, "")
	if f := s.run(ctx, c, target, last); f != nil {
		m.onStart(kind, f.reason)
		if ctx.Err() != nil {
			s.out.fail(ctx.Err())
			return false
		}
		m.setReason(uid, c.Name, Reason{f.reason, f.message})
		s.out.fail(fmt.Errorf("failed to start %s %q of pod %s: %s: %s", kind, c.Name, Full(s.pod), f.reason, f.message))
		s.out.retryIn(s.retryAfter(c, f.reason))
		return false
	}
	m.clearReason(uid, c.Name)
	return true
}

func (s *starter) retryAfter(c *v1.Container, reason string) time.Duration {
	switch reason {
	case images.ErrImagePull.Error(), images.ErrImagePullBackOff.Error(), images.ErrRegistryUnavailable.Error(), images.ErrSignatureValidationFailed.Error():
		// One second beyond the back-off, so that the status shows it first.
		return min(s.m.cfg.Puller.BackOff(s.pod, c.Image)+time.Second, 15*time.Second)
	}
	return 10 * time.Second
}

// backOff tells whether the container crashed too recently to start again.
func (s *starter) backOff(c *v1.Container, last *podstate.Container) (time.Duration, bool) {
	if last == nil {
		return 0, false
	}
	m := s.m
	if IsInit(s.pod, c.Name) && !IsSidecar(c) && last.ExitCode == 0 {
		return 0, false
	}
	key := fmt.Sprintf("%s_%s_%s_%s_%s", s.pod.Name, s.pod.Namespace, s.pod.UID, c.Name, Hash(c))
	if m.backoff.IsInBackOffSince(key, last.FinishedAt) {
		delay := m.backoff.Get(key)
		m.cfg.Recorder.Event(ContainerRef(s.pod, c.Name), v1.EventTypeWarning, "BackOff",
			fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Name, Full(s.pod)))
		message := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", delay, c.Name, Full(s.pod))
		m.setReason(s.pod.UID, c.Name, Reason{ReasonCrashLoop, message})
		left := time.Until(last.FinishedAt.Add(delay))
		return max(left, 100*time.Millisecond), true
	}
	m.backoff.Next(key, last.FinishedAt)
	return 0, false
}

// lastExited is the newest instance that has ended by itself or was ended before:
// one that a probe has just ended still runs in the state, and would wait never.
func lastExited(state *podstate.Pod, name string) *podstate.Container {
	for _, c := range state.Instances(name) {
		if c.State == podstate.Exited {
			return c
		}
	}
	return nil
}

// IsInit reports whether the pod has an init container with the name.
func IsInit(pod *v1.Pod, name string) bool {
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == name {
			return true
		}
	}
	return false
}

// run pulls, creates and starts.
func (s *starter) run(ctx context.Context, c *v1.Container, target string, last *podstate.Container) *failure {
	m := s.m
	ref := ContainerRef(s.pod, c.Name)
	imageRef, msg, err := m.cfg.Puller.Ensure(ctx, images.Request{
		Pod: s.pod, Ref: ref, Image: c.Image, Policy: c.ImagePullPolicy, Secrets: s.secrets, Sandbox: s.sandbox, RuntimeHandler: s.handler,
	})
	if err != nil {
		m.cfg.Recorder.Event(ref, v1.EventTypeWarning, "Failed", "Error: "+err.Error())
		return &failure{err.Error(), msg}
	}
	restarts := 0
	if last != nil {
		restarts = last.RestartCount + 1
	} else if dir := filepath.Join(m.logDir(s.pod), c.Name); true {
		// Containers that were removed leave their logs, numbered by restart.
		restarts = nextRestart(dir)
	}
	fail := func(reason string, err error) *failure {
		m.cfg.Recorder.Event(ref, v1.EventTypeWarning, "Failed", bounded.Text("Error: "+err.Error(), bounded.Message))
		return &failure{reason, err.Error()}
	}
	config, err := s.config(ctx, c, imageRef, target, restarts)
	if err != nil {
		return fail(ReasonConfig, err)
	}
	id, err := m.cfg.Runtime.CreateContainer(ctx, s.sandboxID, config, s.sandbox)
	if err != nil {
		return fail(ReasonCreate, err)
	}
	m.cfg.Recorder.Event(ref, v1.EventTypeNormal, "Created", "Container created")
	if err := m.cfg.Runtime.StartContainer(ctx, id); err != nil {
		return fail(ReasonRun, err)
	}
	m.cfg.Recorder.Event(ref, v1.EventTypeNormal, "Started", "Container started")
	s.linkLog(c, id, config)
	return s.postStart(ctx, c, id, ref)
}

func (s *starter) postStart(ctx context.Context, c *v1.Container, id string, ref *v1.ObjectReference) *failure {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	ip := ""
	if len(s.podIPs) > 0 {
		ip = s.podIPs[0]
	}
	err := s.m.cfg.Hooks.Run(ctx, s.pod, c, id, ip, c.Lifecycle.PostStart)
	if err == nil {
		return nil
	}
	s.m.cfg.Recorder.Event(ref, v1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
	kill := s.m.kill(ctx, s.pod, s.state, c, id, "FailedPostStartHook", "", nil)
	return &failure{ReasonPostStart, errors.Join(err, kill).Error()}
}

func (s *starter) linkLog(c *v1.Container, id string, config *runtimeapi.ContainerConfig) {
	if s.m.cfg.ContainerLogs == "" {
		return
	}
	target := filepath.Join(s.sandbox.LogDirectory, config.LogPath)
	link := LogLink(s.m.cfg.ContainerLogs, s.pod.Name, s.pod.Namespace, c.Name, id)
	if err := os.MkdirAll(s.m.cfg.ContainerLogs, 0o755); err == nil {
		_ = os.Remove(link)
		_ = os.Symlink(target, link)
	}
}

// LogLink is the path of the link to a container's log.
func LogLink(dir, pod, namespace, container, id string) string {
	suffix := "-" + id + ".log"
	name := fmt.Sprintf("%s_%s_%s", pod, namespace, container)
	if len(name)+len(suffix) > 251 {
		name = name[:251-len(suffix)]
	}
	return filepath.Join(dir, name+suffix)
}

// nextRestart is one more than the highest restart that left a log.
func nextRestart(dir string) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	next := 0
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(e.Name(), "%d.log", &n); err == nil && n >= next {
			next = n + 1
		}
	}
	return next
}

func (s *starter) config(ctx context.Context, c *v1.Container, imageRef, target string, restarts int) (*runtimeapi.ContainerConfig, error) {
	m := s.m
	opts, err := m.cfg.Node.ContainerOptions(ctx, s.pod, c, s.podIPs)
	if err != nil {
		return nil, err
	}
	status, err := m.cfg.Images.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: imageRef, RuntimeHandler: s.handler}, false)
	if err != nil {
		return nil, fmt.Errorf("failed to inspect image %q: %w", imageRef, err)
	}
	targetID := ""
	if target != "" {
		if t := s.state.Latest(target); t != nil && t.State == podstate.Running {
			targetID = t.ID
		} else {
			return nil, fmt.Errorf("unable to find target container %v", target)
		}
	}
	security, err := m.security(s.pod, c, targetID, status.GetImage())
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(m.logDir(s.pod), c.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create container log directory for container %s failed: %w", c.Name, err)
	}
	config := &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: uint32(restarts)},
		Image:       &runtimeapi.ImageSpec{Image: imageRef, UserSpecifiedImage: c.Image, RuntimeHandler: s.handler},
		WorkingDir:  c.WorkingDir,
		Labels:      podstate.ContainerLabels(s.pod, c.Name),
		Annotations: podstate.ContainerAnnotations(s.pod, c, Hash(c), restarts),
		Devices:     opts.Devices,
		CDIDevices:  opts.CDIDevices,
		Mounts:      opts.Mounts,
		LogPath:     filepath.Join(c.Name, fmt.Sprintf("%d.log", restarts)),
		Stdin:       c.Stdin,
		StdinOnce:   c.StdinOnce,
		Tty:         c.TTY,
		Linux:       &runtimeapi.LinuxContainerConfig{Resources: resources.Linux(s.pod, c, m.cfg.Settings), SecurityContext: security},
	}
	config.Linux.Resources.CpusetCpus, config.Linux.Resources.CpusetMems = opts.CPUs, opts.MemoryNodes
	for k, v := range opts.Annotations {
		config.Annotations[k] = v
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		config.StopSignal = stopsignal.ToCRI(string(*c.Lifecycle.StopSignal))
	}
	lookup := environment.In(environment.Map(opts.Envs))
	for _, e := range opts.Envs {
		config.Envs = append(config.Envs, &runtimeapi.KeyValue{Key: e.Name, Value: []byte(e.Value)})
	}
	for _, a := range c.Command {
		config.Command = append(config.Command, environment.Expand(a, lookup))
	}
	for _, a := range c.Args {
		config.Args = append(config.Args, environment.Expand(a, lookup))
	}
	if err := m.terminationMessage(s.pod, c, config); err != nil {
		return nil, err
	}
	if users := security.NamespaceOptions.UsernsOptions; users.GetMode() == runtimeapi.NamespaceMode_POD {
		mapOwners(config.Mounts, users)
	}
	return config, nil
}

// mapOwners makes files of volumes belong to the users that they would in a pod
// of the host's users. Images are unpacked, and stay, the host's.
func mapOwners(mounts []*runtimeapi.Mount, users *runtimeapi.UserNamespace) {
	for _, m := range mounts {
		if m.GetImage().GetImage() == "" {
			m.UidMappings, m.GidMappings = users.Uids, users.Gids
		}
	}
}

// terminationMessage mounts the file that the container may leave its last
// words in.
func (m *Manager) terminationMessage(pod *v1.Pod, c *v1.Container, config *runtimeapi.ContainerConfig) error {
	if c.TerminationMessagePath == "" {
		return nil
	}
	dir := filepath.Join(m.cfg.PodsDir, string(pod.UID), "containers", c.Name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	path := filepath.Join(dir, fmt.Sprintf("%08x", time.Now().UnixNano()&0xffffffff))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o666)
	if err != nil {
		return fmt.Errorf("error on creating terminate log file %q: %w", path, err)
	}
	// Any user of the container may write it, whatever the umask.
	if err := errors.Join(f.Chmod(0o666), f.Close()); err != nil {
		return err
	}
	config.Mounts = append(config.Mounts, &runtimeapi.Mount{HostPath: path, ContainerPath: c.TerminationMessagePath})
	return nil
}
