package containers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/reference"
	"k8s.io/client-go/util/flowcontrol"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"skiff/kubelet/bounded"
	"skiff/kubelet/environment"
	"skiff/kubelet/images"
	"skiff/kubelet/lifecycle"
	"skiff/kubelet/podstate"
	"skiff/kubelet/resources"
)

// Options is what a container gets from the kubelet's other parts.
type Options struct {
	Envs       []environment.Var
	Mounts     []*runtimeapi.Mount
	Devices    []*runtimeapi.Device
	CDIDevices []*runtimeapi.CDIDevice
	// CPUs and MemoryNodes are what the container is kept to, as lists of
	// numbers; empty means anything.
	CPUs, MemoryNodes string
	// Annotations are added to the container's.
	Annotations map[string]string
}

// Node answers the questions that making a pod raises.
type Node interface {
	// ContainerOptions prepares a container's environment and mounts.
	ContainerOptions(ctx context.Context, pod *v1.Pod, c *v1.Container, podIPs []string) (*Options, error)
	// CgroupParent is the pod's cgroup, empty when the kubelet keeps none.
	CgroupParent(pod *v1.Pod) string
	// DNS and Hostname are the pod's names.
	DNS(pod *v1.Pod) (*runtimeapi.DNSConfig, error)
	Hostname(pod *v1.Pod) (hostname, domain string, err error)
	// RuntimeHandler resolves the pod's runtime class.
	RuntimeHandler(ctx context.Context, pod *v1.Pod) (string, error)
	// SupplementalGroups are those that the pod's volumes add.
	SupplementalGroups(pod *v1.Pod) []int64
	// UserNamespace says whose users the pod's are.
	UserNamespace(pod *v1.Pod) (*runtimeapi.UserNamespace, error)
}

// Config configures a Manager.
type Config struct {
	Runtime  internalapi.RuntimeService
	Images   internalapi.ImageManagerService
	Puller   *images.Puller
	Hooks    *lifecycle.Runner
	Recorder record.EventRecorder
	Node     Node
	Probes   Probes
	// PodLogs and ContainerLogs are the folders of logs and of the links to them.
	PodLogs, ContainerLogs string
	// PodsDir holds a folder per pod, by identifier.
	PodsDir        string
	Settings       resources.Settings
	SeccompDefault bool
	// SeccompDir holds the Localhost profiles.
	SeccompDir string
	// MaxBackOff bounds the wait between restarts. Default 5 minutes.
	MaxBackOff time.Duration
	// Guard, when set, is asked before containers of a pod with addresses of its own
	// start. They start also where it fails, or does not answer in time.
	Guard func(ctx context.Context, pod *v1.Pod, ips []string) error
	// OnStart, when set, is told of each start of a sandbox or of a container by its
	// kind, and once more with the reason where it failed.
	OnStart func(kind, failure string)
	// OnKilled, when set, is told before a container is stopped.
	OnKilled func(uid types.UID, container, id string)
}

// Manager carries plans out.
type Manager struct {
	cfg     Config
	backoff *flowcontrol.Backoff

	mu      sync.Mutex // guards reasons
	reasons map[types.UID]map[string]Reason
}

// Reason says why a container waits.
type Reason struct {
	Reason, Message string
}

// NewManager checks the configuration.
func NewManager(cfg Config) (*Manager, error) {
	if cfg.Runtime == nil || cfg.Images == nil || cfg.Puller == nil || cfg.Recorder == nil || cfg.Node == nil || cfg.Probes == nil {
		return nil, errors.New("containers: Runtime, Images, Puller, Recorder, Node and Probes are required")
	}
	if cfg.Hooks == nil {
		cfg.Hooks = &lifecycle.Runner{Runtime: cfg.Runtime}
	}
	if cfg.MaxBackOff == 0 {
		cfg.MaxBackOff = 5 * time.Minute
	}
	b := flowcontrol.NewBackOff(min(10*time.Second, cfg.MaxBackOff), cfg.MaxBackOff)
	// A container that ran for ten minutes starts its back-off anew.
	b.HasExpiredFunc = func(eventTime, lastUpdate time.Time, _ time.Duration) bool {
		return eventTime.Sub(lastUpdate) > 10*time.Minute
	}
	return &Manager{cfg: cfg, backoff: b, reasons: map[types.UID]map[string]Reason{}}, nil
}

// WaitReason is the last failure to start the container, if any.
func (m *Manager) WaitReason(uid types.UID, container string) (Reason, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.reasons[uid][container]
	return r, ok
}

func (m *Manager) setReason(uid types.UID, container string, r Reason) {
	r.Message = bounded.Text(r.Message, bounded.Message)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reasons[uid] == nil {
		m.reasons[uid] = map[string]Reason{}
	}
	m.reasons[uid][container] = r
}

// WaitForVolume notes why the containers that mount a volume do not start.
func (m *Manager) WaitForVolume(pod *v1.Pod, name string, r Reason) {
	mounts := func(v v1.VolumeMount) bool { return v.Name == name }
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if slices.ContainsFunc(list[i].VolumeMounts, mounts) {
				m.setReason(pod.UID, list[i].Name, r)
			}
		}
	}
}

func (m *Manager) clearReason(uid types.UID, container string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.reasons[uid], container)
}

// Forget drops what is remembered of a pod that is gone.
func (m *Manager) Forget(pod *v1.Pod) {
	m.mu.Lock()
	delete(m.reasons, pod.UID)
	m.mu.Unlock()
	m.cfg.Puller.ForgetPod(pod)
	m.backoff.GC()
}

// Outcome is what carrying out a plan came to.
type Outcome struct {
	// Changed says that something in the runtime was changed.
	Changed bool
	// Retry is when to try again what is held back; 0 means no such wish.
	Retry time.Duration
	// Err joins what failed; each container's failure is in its wait reason.
	Err error
}

func (o *Outcome) fail(err error) { o.Err = errors.Join(o.Err, err) }

func (o *Outcome) retryIn(d time.Duration) {
	if d > 0 && (o.Retry == 0 || d < o.Retry) {
		o.Retry = d
	}
}

// Execute carries out a plan for a pod.
func (m *Manager) Execute(ctx context.Context, pod *v1.Pod, state *podstate.Pod, plan Plan, secrets []v1.Secret) Outcome {
	var out Outcome
	if plan.CreateSandbox && len(state.Sandboxes) > 0 {
		m.podEvent(pod, v1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	if plan.KillPod {
		if len(state.Sandboxes) > 0 {
			// Also where nothing runs: a sandbox whose network could not be given back
			// is not followed by more of its kind.
			out.Changed = state.Active()
			if err := m.KillPod(ctx, pod, state, nil); err != nil {
				m.podEvent(pod, v1.EventTypeWarning, "FailedKillPod", fmt.Sprintf("error killing pod: %v", err))
				out.fail(err)
				return out
			}
		}
	} else {
		for _, k := range plan.Kill {
			out.Changed = true
			if err := m.kill(ctx, pod, state, k.Spec, k.ID, k.Message, k.Reason, nil); err != nil {
				out.fail(err)
				return out
			}
		}
	}
	if !plan.CreateSandbox && plan.KillPod {
		return out
	}
	m.pruneInit(ctx, pod, state, plan)
	sandboxID := plan.SandboxID
	handler, err := m.cfg.Node.RuntimeHandler(ctx, pod)
	if err != nil {
		m.podEvent(pod, v1.EventTypeWarning, "FailedCreatePodSandBox", fmt.Sprintf("Failed to create pod sandbox: %v", err))
		out.fail(err)
		return out
	}
	sandbox, err := m.sandboxConfig(pod, plan.Attempt)
	if err != nil {
		m.podEvent(pod, v1.EventTypeWarning, "FailedCreatePodSandBox", fmt.Sprintf("Failed to create pod sandbox: %v", err))
		out.fail(err)
		return out
	}
	var podIPs []string
	if plan.CreateSandbox {
		out.Changed = true
		m.onStart(kindSandbox, "")
		if sandboxID, podIPs, err = m.createSandbox(ctx, pod, sandbox, handler); err != nil {
			m.onStart(kindSandbox, "CreatePodSandboxError")
			out.fail(err)
			return out
		}
	} else if s := state.ReadySandbox(); s != nil {
		podIPs = s.IPs
	}
	if pod.Spec.HostNetwork {
		podIPs = nil
	}
	if len(plan.Ephemeral)+len(plan.Init)+len(plan.Start) > 0 {
		m.guard(ctx, pod, podIPs)
	}
	s := starter{m: m, pod: pod, state: state, secrets: secrets, sandboxID: sandboxID, sandbox: sandbox, handler: handler, podIPs: podIPs, out: &out}
	for _, i := range plan.Ephemeral {
		c := v1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		s.start(ctx, &c, pod.Spec.EphemeralContainers[i].TargetContainerName, "ephemeral container")
	}
	for _, i := range plan.Init {
		if !s.start(ctx, &pod.Spec.InitContainers[i], "", "init container") && !IsSidecar(&pod.Spec.InitContainers[i]) {
			return out
		}
	}
	for _, i := range plan.Start {
		s.start(ctx, &pod.Spec.Containers[i], "", "container")
	}
	return out
}

// guardPatience is how long containers wait for the rules that guard their pod.
const guardPatience = 2 * time.Second

func (m *Manager) guard(ctx context.Context, pod *v1.Pod, ips []string) {
	if m.cfg.Guard == nil || len(ips) == 0 {
		return
	}
	within, cancel := context.WithTimeout(ctx, guardPatience)
	defer cancel()
	if err := m.cfg.Guard(within, pod, ips); err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "A pod starts before the rules that guard it", "pod", klog.KObj(pod))
	}
}

// pruneInit removes old instances of the init containers about to run, all
// but the newest.
func (m *Manager) pruneInit(ctx context.Context, pod *v1.Pod, state *podstate.Pod, plan Plan) {
	if plan.CreateSandbox {
		return
	}
	for _, i := range plan.Init {
		instances := state.Instances(pod.Spec.InitContainers[i].Name)
		for n, c := range instances {
			if n > 0 && c.State == podstate.Exited {
				_ = m.Remove(ctx, c)
			}
		}
	}
}

func (m *Manager) podEvent(pod *v1.Pod, kind, reason, message string) {
	if ref, err := reference.GetReference(scheme.Scheme, pod); err == nil {
		m.cfg.Recorder.Event(ref, kind, reason, message)
	}
}

// ContainerRef is what events about one of the pod's containers are about.
func ContainerRef(pod *v1.Pod, container string) *v1.ObjectReference {
	path := ""
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == container {
			path = fmt.Sprintf("spec.containers{%s}", container)
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == container {
			path = fmt.Sprintf("spec.initContainers{%s}", container)
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == container {
			path = fmt.Sprintf("spec.ephemeralContainers{%s}", container)
		}
	}
	ref, err := reference.GetPartialReference(scheme.Scheme, pod, path)
	if err != nil {
		return &v1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, FieldPath: path}
	}
	return ref
}

// Full is how messages name a pod.
func Full(pod *v1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}
