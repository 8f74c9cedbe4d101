package kubelet

import (
	"context"
	"fmt"
	"path/filepath"
	"sort"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/utils/exec"

	"skiff/kubelet/allocation"
	"skiff/kubelet/containers"
	"skiff/kubelet/csinode"
	"skiff/kubelet/eviction"
	"skiff/kubelet/images"
	"skiff/kubelet/nodestatus"
	"skiff/kubelet/pluginwatch"
	"skiff/kubelet/podcertificates"
	"skiff/kubelet/server"
	"skiff/kubelet/shutdown"
	"skiff/kubelet/stats"
	"skiff/kubelet/status"
	"skiff/kubelet/userns"
	"skiff/kubelet/volumes"
	"skiff/kubelet/volumes/configmap"
	"skiff/kubelet/volumes/csi"
	"skiff/kubelet/volumes/downwardapi"
	"skiff/kubelet/volumes/emptydir"
	"skiff/kubelet/volumes/fc"
	"skiff/kubelet/volumes/hostpath"
	"skiff/kubelet/volumes/image"
	"skiff/kubelet/volumes/iscsi"
	"skiff/kubelet/volumes/local"
	"skiff/kubelet/volumes/nfs"
	"skiff/kubelet/volumes/projected"
	"skiff/kubelet/volumes/scsi"
	"skiff/kubelet/volumes/secret"
	"skiff/kubelet/volumes/volume"
)

// buildVolumes lists the kinds of volumes as data.
func (k *Kubelet) buildVolumes() error {
	if err := k.buildCSI(); err != nil {
		return err
	}
	m := k.cfg.Mounter
	allocatable := func() v1.ResourceList { return k.allocatable }
	var err error
	k.certificates, err = podcertificates.New(podcertificates.Config{Client: k.cfg.Client, NodeName: k.cfg.NodeName, Node: k.Node, Notify: k.workers.Notify})
	if err != nil {
		return err
	}
	k.volumes, err = volumes.New(volumes.Config{
		Client: k.cfg.Client, PodsDir: k.podsDir(), Mounter: m,
		Plugins: []volume.Plugin{
			&emptydir.Plugin{Mounter: m, Memory: func() int64 { return k.allocatable.Memory().Value() }},
			&hostpath.Plugin{},
			&configmap.Plugin{Mounter: m, Objects: k.objects},
			&secret.Plugin{Mounter: m, Objects: k.objects},
			&downwardapi.Plugin{Mounter: m, Allocatable: allocatable},
			&projected.Plugin{Mounter: m, Objects: k.objects, Tokens: k.tokens, Allocatable: allocatable, TrustBundle: k.trustBundle, Certificates: k.certificates.Credentials},
			&local.Plugin{Mounter: m},
			&nfs.Plugin{Mounter: m},
			iscsi.New(iscsi.Config{Root: k.cfg.Paths.Root, Mounter: m, Exec: exec.New(), Objects: k.objects, Host: scsi.Host{Root: "/"}}),
			fc.New(fc.Config{Root: k.cfg.Paths.Root, Mounter: m, Exec: exec.New(), Host: scsi.Host{Root: "/"}}),
			&image.Plugin{Ensure: k.volumeImage},
			k.csi,
		},
	})
	return err
}

// buildCSI makes what CSI drivers register with and volumes are mounted by.
func (k *Kubelet) buildCSI() error {
	var err error
	if k.csiNode, err = csinode.New(csinode.Config{Client: k.cfg.Client, Name: k.cfg.NodeName}); err != nil {
		return err
	}
	drivers := k.factory.Storage().V1().CSIDrivers()
	k.csi, err = csi.New(csi.Config{
		Client: k.cfg.Client, Recorder: k.recorder, Mounter: k.cfg.Mounter, NodeName: k.cfg.NodeName, Root: k.cfg.Paths.Root,
		Objects: k.objects, Tokens: k.tokens, Drivers: drivers.Lister(), Synced: drivers.Informer().HasSynced, Nodes: k.csiNode,
		Node: k.Node, Report: func() { k.node.Poke() }, Refresh: k.cfg.Kubelet.SyncFrequency.Duration, SELinux: csi.SELinuxEnabled(),
	})
	return err
}

// buildPlugins makes what plugins of each type register with.
func (k *Kubelet) buildPlugins() error {
	var err error
	k.plugins, err = pluginwatch.New(pluginwatch.Config{
		Dir: filepath.Join(k.cfg.Paths.Root, "plugins_registry"),
		Handlers: map[string]pluginwatch.Handler{
			registration.CSIPlugin: k.csi, registration.DevicePlugin: k.devices.Handler(), registration.DRAPlugin: k.claims.Handler(),
		},
	})
	return err
}

// buildUsers keeps who the pods are and what they have. It takes over the ranges
// of users of the pods that are here.
func (k *Kubelet) buildUsers() error {
	here, err := k.volumes.Pods()
	if err != nil {
		return err
	}
	k.allocation = allocation.New(k.volumes.PodDir)
	length := int64(0)
	if u := k.cfg.Kubelet.UserNamespaces; u != nil && u.IDsPerPod != nil {
		length = *u.IDsPerPod
	}
	k.users, err = userns.New(userns.Config{PodDir: k.volumes.PodDir, Length: length, Pods: int(k.cfg.Kubelet.MaxPods)}, here)
	return err
}

// volumeImage pulls the image of an image volume.
func (k *Kubelet) volumeImage(ctx context.Context, r *volume.Request) (string, error) {
	ref, message, err := k.puller.Ensure(ctx, images.Request{
		Pod: r.Pod, Ref: containers.ContainerRef(r.Pod, ""), Image: r.Volume.Image.Reference, Policy: r.Volume.Image.PullPolicy, Secrets: k.pullSecrets(ctx, r.Pod),
	})
	if err != nil {
		return "", &images.Failure{Reason: err, Message: message}
	}
	return ref, nil
}

// buildGuard makes what waits for the machine's shutdown.
func (k *Kubelet) buildGuard() error {
	groups := shutdown.Groups(k.cfg.Kubelet)
	var err error
	k.guard, err = shutdown.New(shutdown.Config{
		Groups: groups, Bus: k.cfg.Bus, ConfDir: k.cfg.LogindConfDir,
		End: func(ctx context.Context) { k.endForShutdown(ctx, groups) },
		Off: func() { k.setShutdown(false) },
	})
	return err
}

func (k *Kubelet) buildNode() error {
	c := k.cfg.Kubelet
	provider := k.cfg.ProviderID
	if provider == "" {
		provider = c.ProviderID
	}
	taints := append(append([]v1.Taint(nil), c.RegisterWithTaints...), k.cfg.Taints...)
	var err error
	k.stats, err = stats.New(stats.Config{
		Runtime: k.cfg.Runtime, Images: k.cfg.Images, NodeName: k.cfg.NodeName, RootDir: k.cfg.Paths.Root, Pods: k.Pods,
		PodDir: k.volumes.PodDir, LogDir: func(pod *v1.Pod) string {
			return containers.LogDir(k.cfg.Paths.PodLogs, pod.Namespace, pod.Name, string(pod.UID))
		},
		Volumes: k.volumes.Usage, Cgroups: k.cgroups, CgroupRoot: k.cfg.Paths.CgroupRoot,
	})
	if err != nil {
		return err
	}
	k.eviction, err = eviction.New(eviction.Config{
		Hard: c.EvictionHard, Soft: c.EvictionSoft, SoftGrace: c.EvictionSoftGracePeriod, MinimumReclaim: c.EvictionMinimumReclaim,
		MaxPodGrace: int64(c.EvictionMaxPodGracePeriod), Transition: c.EvictionPressureTransitionPeriod.Duration,
		Observe: k.stats.Signals, Usage: k.stats.PodUsage, Pods: k.ActivePods, Changed: func() { k.node.Poke() }, Evicted: k.counts.Evicted,
		Met: func(name v1.ResourceName) {
			k.recorder.Event(nodestatus.Ref(k.cfg.NodeName), v1.EventTypeWarning, "EvictionThresholdMet", fmt.Sprintf("Attempting to reclaim %s", name))
		},
		Reclaim: k.reclaim,
		Evict: func(pod *v1.Pod, message string, grace int64) <-chan struct{} {
			k.recorder.Event(pod, v1.EventTypeWarning, reasonEvicted, message)
			return k.KillPod(pod.UID, &status.Failure{Reason: reasonEvicted, Message: message, Condition: &v1.PodCondition{
				Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet, Message: message,
			}}, &grace)
		},
	})
	if err != nil {
		return err
	}
	k.node, err = nodestatus.New(nodestatus.Config{
		Client: k.cfg.Client, Recorder: k.recorder, Name: k.cfg.NodeName, IPs: k.cfg.NodeIPs, Hostname: k.cfg.Hostname, Labels: k.cfg.NodeLabels,
		Taints: taints, ProviderID: provider, Register: *c.RegisterNode, External: k.cfg.External, Port: k.port(), Capacity: k.capacity,
		Allocatable: k.allocatable, Machine: k.machine, Version: k.cfg.Version, State: k.nodeState, OnNode: k.onNode,
		UpdateEvery: c.NodeStatusUpdateFrequency.Duration, ReportEvery: c.NodeStatusReportFrequency.Duration,
		LeaseDuration: leaseDuration(c.NodeLeaseDurationSeconds),
	})
	return err
}

func (k *Kubelet) buildServer() error {
	var err error
	k.server, err = server.New(server.Config{
		Client: k.cfg.Client, Kubelet: k.cfg.Kubelet, NodeName: k.cfg.NodeName, NodeIPs: k.cfg.NodeIPs, Runtime: k.cfg.Runtime,
		Streaming: k.cfg.Streaming, GetCertificate: k.cfg.GetCertificate,
		Listener: k.cfg.Listener, Pods: k, Stats: k.stats, Probes: k.probes, LogsDir: k.cfg.Paths.Logs, Healthy: k.watcher.Healthy,
		CheckpointDir: filepath.Join(k.cfg.Paths.Root, "checkpoints"), Tracing: k.cfg.Tracing, Flags: k.cfg.Flags, Counts: k.counts,
	})
	return err
}

// imageFsUsage is the fill of the file system that images are on.
func (k *Kubelet) imageFsUsage(ctx context.Context) (capacity, available uint64, err error) {
	return k.stats.ImageFs(ctx)
}

func sortImages(list []*runtimeapi.Image) {
	sort.Slice(list, func(i, j int) bool {
		if list[i].Size != list[j].Size {
			return list[i].Size > list[j].Size
		}
		return list[i].Id < list[j].Id
	})
}

// Node returns the newest known object of the node, nil before it registered.
func (k *Kubelet) Node() *v1.Node { return k.node.Node() }

// onNode is told of every version of the node's object. A new object has no
// CSINode yet: that of the old one goes with it.
func (k *Kubelet) onNode(node *v1.Node) {
	if old := k.nodeUID.Swap(&node.UID); old == nil || *old != node.UID {
		k.csiNode.Poke()
	}
	if k.cfg.OnNode != nil {
		k.cfg.OnNode(node)
	}
}
