// Package kubelet is the node agent: it runs the pods that are bound to its
// node through a container runtime, and reports about them and the node.
//
// The parts are packages of their own. This one holds what is known of each
// pod (record.go), the steps that move a pod on (step.go, sync.go,
// terminate.go), where pods come from (source.go, static.go), and the answers
// that making containers needs (options.go).
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"skiff/kubelet/allocation"
	"skiff/kubelet/cgroups"
	"skiff/kubelet/claims"
	"skiff/kubelet/containers"
	"skiff/kubelet/counts"
	"skiff/kubelet/cpus"
	"skiff/kubelet/csinode"
	"skiff/kubelet/devices"
	"skiff/kubelet/events"
	"skiff/kubelet/eviction"
	"skiff/kubelet/images"
	"skiff/kubelet/lifecycle"
	"skiff/kubelet/logs"
	"skiff/kubelet/memory"
	"skiff/kubelet/nodestatus"
	"skiff/kubelet/objects"
	"skiff/kubelet/pluginwatch"
	"skiff/kubelet/podcertificates"
	"skiff/kubelet/podnet"
	"skiff/kubelet/podresources"
	"skiff/kubelet/pods"
	"skiff/kubelet/podstate"
	"skiff/kubelet/probes"
	"skiff/kubelet/resources"
	"skiff/kubelet/server"
	"skiff/kubelet/shutdown"
	"skiff/kubelet/stats"
	"skiff/kubelet/status"
	"skiff/kubelet/tokens"
	"skiff/kubelet/topology"
	"skiff/kubelet/userns"
	"skiff/kubelet/volumes"
	"skiff/kubelet/volumes/csi"
)

// Kubelet is the node agent.
type Kubelet struct {
	cfg                   Config
	settings              resources.Settings
	machine               *nodestatus.Machine
	capacity, allocatable v1.ResourceList

	recorder     *events.Recorder
	counts       *counts.Counts
	workers      *pods.Workers
	watcher      *podstate.Watcher
	manager      *containers.Manager
	puller       *images.Puller
	imageGC      *images.GC
	probes       *probes.Manager
	status       *status.Manager
	objects      *objects.Cache
	tokens       *tokens.Manager
	certificates *podcertificates.Manager
	volumes      *volumes.Manager
	cgroups      *cgroups.Manager
	node         *nodestatus.Manager
	dns          *podnet.DNS
	rotator      *logs.Rotator
	stats        *stats.Provider
	eviction     *eviction.Manager
	server       *server.Server
	devices      *devices.Manager
	cpus         *cpus.Manager
	memory       *memory.Manager
	claims       *claims.Manager
	topology     *topology.Manager
	plugins      *pluginwatch.Watcher
	podResources *podresources.Server
	users        *userns.Allocator
	allocation   *allocation.Store
	csi          *csi.Plugin
	csiNode      *csinode.Manager
	guard        *shutdown.Guard
	// nodeUID is of the node's object that was seen last.
	nodeUID atomic.Pointer[types.UID]

	services corelisters.ServiceLister
	factory  informers.SharedInformerFactory
	synced   []cache.InformerSynced

	runtimeState runtimeState
	// cpusChanged asks for a look at what CPUs containers run on.
	cpusChanged chan struct{}
	// background are short calls to the API server that nobody waits for.
	background sync.WaitGroup
	ready      chan struct{}
	// restored is closed when the state that earlier kubelets left has been taken.
	restored chan struct{}
	// unrestored is why it could not be taken; nil before and after.
	unrestored atomic.Pointer[string]

	admitMu sync.Mutex // serialises admissions

	mu           sync.Mutex // guards what follows
	records      map[types.UID]*record
	sourcesReady bool
	shutdown     bool
}

// New checks the configuration and puts the parts together.
func New(cfg Config) (*Kubelet, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	k := &Kubelet{cfg: cfg, counts: counts.New(), records: map[types.UID]*record{}, ready: make(chan struct{}), restored: make(chan struct{}), cpusChanged: make(chan struct{}, 1)}
	if err := k.measure(); err != nil {
		return nil, fmt.Errorf("kubelet: %w", err)
	}
	for _, build := range []func() error{k.buildPods, k.buildFactory, k.buildVolumes, k.buildUsers, k.buildAllocation, k.buildPlugins, k.buildNode, k.buildServer, k.buildGuard} {
		if err := build(); err != nil {
			return nil, fmt.Errorf("kubelet: %w", err)
		}
	}
	return k, nil
}

// measure finds out what the machine has.
func (k *Kubelet) measure() error {
	c := k.cfg.Kubelet
	reserveCPUs(c)
	if c.ProtectKernelDefaults {
		if err := checkKernelFlags("/proc/sys"); err != nil {
			return err
		}
	}
	var err error
	if k.machine, err = nodestatus.ReadMachine(); err != nil {
		return err
	}
	if m := k.cfg.Machine; m != nil {
		k.machine.CPUs, k.machine.Memory = len(m.CPUs), m.Memory()
	}
	root := k.cfg.Paths.Root
	for root != "/" {
		if _, err := os.Stat(root); err == nil {
			break
		}
		root = filepath.Dir(root)
	}
	maxPods := int64(c.MaxPods)
	if c.PodsPerCore > 0 {
		maxPods = min(maxPods, int64(c.PodsPerCore)*int64(k.machine.CPUs))
	}
	k.capacity = k.machine.Capacity(maxPods, root)
	if k.allocatable, err = nodestatus.Allocatable(k.capacity, []map[string]string{c.SystemReserved, c.KubeReserved}, c.EvictionHard); err != nil {
		return err
	}
	swap, err := swapOf(c, k.machine.Swap)
	if err != nil {
		return err
	}
	group, err := oomGroup(c, swap.Unified && cgroups.OOMGroups(""))
	if err != nil {
		return err
	}
	k.settings = resources.Settings{
		MemoryCapacity: k.machine.Memory, CFSQuota: *c.CPUCFSQuota, CFSPeriod: c.CPUCFSQuotaPeriod.Duration, Swap: swap, OOMGroup: group,
	}
	if on, set := c.FeatureGates["DisableCPUQuotaWithExclusiveCPUs"]; on || !set {
		k.settings.Exclusive = func(pod types.UID, container string) bool { return !k.cpus.Exclusive(pod, container).IsEmpty() }
	}
	if !k.cfg.DisableCgroups && *c.CgroupsPerQOS {
		k.cgroups, err = cgroups.New(cgroups.Config{Root: k.cfg.Paths.CgroupRoot, Settings: k.settings, PidsLimit: *c.PodPidsLimit})
	}
	return err
}

// buildPods makes what runs pods.
func (k *Kubelet) buildPods() error {
	c := k.cfg.Kubelet
	k.recorder = events.New(k.cfg.Client, "kubelet", k.cfg.NodeName)
	k.workers = pods.New(k.step)
	k.objects = objects.New(k.cfg.Client, k.workers.Notify)
	k.tokens = tokens.New(k.cfg.Client)
	k.dns = &podnet.DNS{ClusterDNS: c.ClusterDNS, ClusterDomain: c.ClusterDomain, ResolvConf: *c.ResolverConfig, Warn: func(pod *v1.Pod, reason, message string) {
		k.recorder.Event(pod, v1.EventTypeWarning, reason, message)
	}}
	var err error
	if k.watcher, err = podstate.NewWatcher(podstate.WatcherConfig{Runtime: k.cfg.Runtime, Notify: k.workers.Notify, Relisted: k.counts.Relisted}); err != nil {
		return err
	}
	if k.probes, err = probes.New(probes.Config{Runtime: k.cfg.Runtime, Recorder: k.recorder, Notify: k.workers.Notify}); err != nil {
		return err
	}
	parallel := 1
	if !*c.SerializeImagePulls {
		parallel = 0
		if c.MaxParallelImagePulls != nil {
			parallel = int(*c.MaxParallelImagePulls)
		}
	}
	keyring := &images.Keyring{Files: k.cfg.CredentialFiles}
	if k.cfg.CredentialProviders != "" {
		if keyring.Providers, err = k.providers(); err != nil {
			return err
		}
	}
	var access *images.Access
	if on, set := c.FeatureGates["KubeletEnsureSecretPulledImages"]; on || !set {
		access, err = images.NewAccess(images.AccessConfig{
			Dir: filepath.Join(k.cfg.Paths.Root, "image_manager"), Policy: c.ImagePullCredentialsVerificationPolicy, Allowlist: c.PreloadedImagesVerificationAllowlist,
		})
		if err != nil {
			return err
		}
	}
	k.puller, err = images.New(images.Config{
		Images: k.cfg.Images, Recorder: k.recorder, Keyring: keyring, Access: access,
		QPS: float64(*c.RegistryPullQPS), Burst: int(c.RegistryBurst), Parallel: parallel, Pulled: k.counts.Pulled,
	})
	if err != nil {
		return err
	}
	k.manager, err = containers.NewManager(containers.Config{
		Runtime: k.cfg.Runtime, Images: k.cfg.Images, Puller: k.puller, Hooks: &lifecycle.Runner{Runtime: k.cfg.Runtime}, Recorder: k.recorder,
		Node: k, Probes: k.probes, PodLogs: k.cfg.Paths.PodLogs, ContainerLogs: k.cfg.Paths.ContainerLogs, PodsDir: k.podsDir(),
		Settings: k.settings, SeccompDefault: *c.SeccompDefault, SeccompDir: filepath.Join(k.cfg.Paths.Root, "seccomp"),
		MaxBackOff: c.CrashLoopBackOff.MaxContainerRestartPeriod.Duration, Guard: k.cfg.Guard, OnStart: k.counts.Start,
	})
	if err != nil {
		return err
	}
	k.status, err = status.NewManager(status.Config{Client: k.cfg.Client, Pod: k.apiPod, Deletable: k.deletable})
	if err != nil {
		return err
	}
	size, err := resource.ParseQuantity(c.ContainerLogMaxSize)
	if err != nil {
		return fmt.Errorf("containerLogMaxSize %q: %w", c.ContainerLogMaxSize, err)
	}
	k.rotator = &logs.Rotator{Runtime: k.cfg.Runtime, MaxSize: size.Value(), MaxFiles: int(*c.ContainerLogMaxFiles), Interval: c.ContainerLogMonitorInterval.Duration}
	k.imageGC, err = images.NewGC(images.GCConfig{
		Runtime: k.cfg.Runtime, Images: k.cfg.Images, Recorder: k.recorder, Node: nodestatus.Ref(k.cfg.NodeName),
		HighPercent: int(*c.ImageGCHighThresholdPercent), LowPercent: int(*c.ImageGCLowThresholdPercent),
		MinAge: c.ImageMinimumGCAge.Duration, MaxAge: c.ImageMaximumGCAge.Duration, Usage: k.imageFsUsage, Access: access,
	})
	return err
}

func (k *Kubelet) podsDir() string { return filepath.Join(k.cfg.Paths.Root, "pods") }

// Ready is closed when the node is registered and the pods' sources are read.
func (k *Kubelet) Ready() <-chan struct{} { return k.ready }

// part is something that runs as long as the kubelet.
type part struct {
	name string
	run  func(context.Context) error
}

// Run runs the node until the context ends. Pods go on running after it.
func (k *Kubelet) Run(ctx context.Context) error {
	for _, dir := range []string{k.podsDir(), k.cfg.Paths.PodLogs, k.cfg.Paths.ContainerLogs} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("kubelet: %w", err)
		}
	}
	if k.cfg.shareMounts {
		if err := shareRoot(ctx, k.cfg.Paths.Root); err != nil {
			return fmt.Errorf("kubelet: %w", err)
		}
	}
	if k.cgroups != nil {
		limit := resources.Pod{Shares: resources.Shares(k.allocatable.Cpu().MilliValue())}
		if err := k.cgroups.EnsureNode(limit); err != nil {
			return fmt.Errorf("kubelet: %w", err)
		}
	}
	// What was given to the pods that run must be known before anything is given to others.
	k.restore(ctx)
	known := func(run func(context.Context) error) func(context.Context) error { return after(k.restored, run) }
	// A node that begins again must not say that it is not ready only because it does
	// not know yet: its pods would lose their place behind Services.
	k.askRuntime(ctx)
	parts := []part{
		{"events", k.recorder.Run}, {"objects", k.objects.Run}, {"runtime state", k.watchRuntime}, {"sources", known(k.runSources)}, {"status", known(k.status.Run)},
		{"probes", k.probes.Run}, {"workers", known(k.workers.Run)}, {"runtime events", k.watcher.Run}, {"node", k.node.Run}, {"log rotation", k.rotator.Run},
		{"garbage collection", known(k.collect)}, {"eviction", known(k.eviction.Run)}, {"orphans", known(k.cleanOrphans)},
		{"device plugins", known(k.devices.Run)}, {"plugin watcher", known(k.plugins.Run)}, {"pod resources", known(k.podResources.Run)}, {"CPUs", known(k.keepCPUs)}, {"resource claims", known(k.claims.Run)},
		{"CSI node", k.csiNode.Run}, {"CSI", known(k.csi.Run)}, {"volumes", known(k.volumes.Run)}, {"pod certificates", k.certificates.Run},
		{"shutdown guard", k.guard.Run}, {"state", k.keepRestoring},
	}
	if *k.cfg.Kubelet.EnableServer {
		parts = append(parts, part{"server", k.server.Run})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(parts))
	for i, p := range parts {
		wg.Go(func() {
			if err := p.run(ctx); err != nil && ctx.Err() == nil {
				errs[i] = fmt.Errorf("kubelet %s: %w", p.name, err)
				// One part that cannot go on ends the whole.
				cancel()
			}
		})
	}
	wg.Wait()
	k.background.Wait()
	return errors.Join(errs...)
}

// collect removes unused images and dead containers now and then.
func (k *Kubelet) collect(ctx context.Context) error {
	log := klog.FromContext(ctx)
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if n%5 == 0 {
			if err := k.imageGC.CollectAgain(ctx); err != nil {
				log.Info("Image garbage collection failed", "err", err)
			}
		}
		k.updateBurstable()
	}
}

// updateBurstable weighs the burstable class by what its pods ask for.
func (k *Kubelet) updateBurstable() {
	if k.cgroups == nil {
		return
	}
	var milli int64
	for _, pod := range k.ActivePods() {
		if resources.QOS(pod) == v1.PodQOSBurstable {
			requests := resources.Requests(pod)
			milli += requests.Cpu().MilliValue()
		}
	}
	if err := k.cgroups.SetBurstableShares(milli); err != nil {
		klog.Background().V(2).Info("Weighing the burstable class failed", "err", err)
	}
}
