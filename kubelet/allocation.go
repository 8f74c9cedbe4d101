package kubelet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/utils/cpuset"

	"skiff/kubelet/admission"
	"skiff/kubelet/claims"
	"skiff/kubelet/containers"
	"skiff/kubelet/devices"
	"skiff/kubelet/environment"
	"skiff/kubelet/memory/state"
	"skiff/kubelet/podresources"
	"skiff/kubelet/topology"
)

// buildAllocation makes what sets parts of the machine aside for containers.
func (k *Kubelet) buildAllocation() error {
	c := k.cfg.Kubelet
	machine, err := k.readTopology()
	if err != nil {
		return err
	}
	if err := k.buildPinning(machine); err != nil {
		return err
	}
	k.devices, err = devices.New(devices.Config{
		Dir: filepath.Join(k.cfg.Paths.Root, "device-plugins"), Nodes: machine.NodeIDs(),
		Changed: func() { k.node.Poke() }, Notify: k.workers.Notify,
	})
	if err != nil {
		return err
	}
	options, err := topology.ParseOptions(c.TopologyManagerPolicyOptions)
	if err != nil {
		return fmt.Errorf("topologyManagerPolicyOptions: %w", err)
	}
	k.topology, err = topology.New(topology.Config{
		Policy: c.TopologyManagerPolicy, Scope: c.TopologyManagerScope, Options: options, Nodes: machine.Nodes,
		Providers: []topology.Provider{k.devices, k.cpus, k.memory},
	})
	if err != nil {
		return fmt.Errorf("topology manager: %w", err)
	}
	k.claims, err = claims.New(claims.Config{Client: k.cfg.Client, NodeName: k.cfg.NodeName, Dir: k.cfg.Paths.Root, Notify: k.workers.Notify})
	if err != nil {
		return err
	}
	k.podResources, err = podresources.New(podresources.Config{
		Socket: filepath.Join(k.cfg.Paths.Root, "pod-resources", "kubelet.sock"),
		Pods:   k.ActivePods, Container: k.containerResources, Allocatable: k.allocatableResources,
	})
	return err
}

// setAside keeps for a pod what its containers ask for.
func (k *Kubelet) setAside(ctx context.Context, pod *v1.Pod) *admission.Refusal {
	err := k.topology.Admit(ctx, pod)
	if err == nil {
		return nil
	}
	var known interface{ Reason() string }
	if errors.As(err, &known) {
		return &admission.Refusal{Reason: known.Reason(), Message: err.Error()}
	}
	return &admission.Refusal{Reason: "UnexpectedAdmissionError", Message: fmt.Sprintf("Allocate failed due to %v, which is unexpected", err)}
}

// release gives back what was set aside for a pod of which nothing runs.
func (k *Kubelet) release(ctx context.Context, uid types.UID) {
	if err := k.topology.Release(uid); err != nil {
		// The next allocation, or the search for orphans, writes it.
		klog.FromContext(ctx).Info("Giving a pod's resources back failed", "podUID", uid, "err", err)
	}
}

// deviceOptions adds what the container needs for its devices.
func (k *Kubelet) deviceOptions(ctx context.Context, pod *v1.Pod, c *v1.Container, out *containers.Options) error {
	out.CPUs, out.MemoryNodes = k.cpus.Of(pod.UID, c.Name).String(), cpuset.New(k.memory.Nodes(pod.UID, c.Name)...).String()
	o, err := k.devices.Options(ctx, pod, c)
	if err != nil {
		return err
	}
	have := environment.Map(out.Envs)
	for _, name := range slices.Sorted(maps.Keys(o.Envs)) {
		if _, own := have[name]; !own {
			out.Envs = append(out.Envs, environment.Var{Name: name, Value: o.Envs[name]})
		}
	}
	out.Mounts, out.Devices = append(out.Mounts, o.Mounts...), append(out.Devices, o.Devices...)
	ofClaims, err := k.claims.CDI(pod, c)
	if err != nil {
		return err
	}
	for _, name := range append(o.CDI, ofClaims...) {
		out.CDIDevices = append(out.CDIDevices, &runtimeapi.CDIDevice{Name: name})
	}
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	maps.Copy(out.Annotations, o.Annotations)
	return nil
}

// containerResources is what was set aside for a container.
func (k *Kubelet) containerResources(pod *v1.Pod, c *v1.Container) *podresourcesapi.ContainerResources {
	return &podresourcesapi.ContainerResources{
		Devices: placed(k.devices.Devices(pod.UID, c.Name)), CpuIds: numbers(k.cpus.Exclusive(pod.UID, c.Name)), Memory: blocks(k.memory.Blocks(pod.UID, c.Name)),
		DynamicResources: dynamic(k.claims.Devices(pod, c)),
	}
}

// allocatableResources is all that can be set aside.
func (k *Kubelet) allocatableResources() *podresourcesapi.AllocatableResourcesResponse {
	return &podresourcesapi.AllocatableResourcesResponse{
		Devices: placed(k.devices.Healthy()), CpuIds: numbers(k.cpus.Allocatable()), Memory: blocks(k.memory.Allocatable()),
	}
}

func placed(list []devices.Placed) []*podresourcesapi.ContainerDevices {
	var out []*podresourcesapi.ContainerDevices
	for _, d := range list {
		out = append(out, &podresourcesapi.ContainerDevices{ResourceName: d.Resource, DeviceIds: d.IDs, Topology: nodes(d.Nodes)})
	}
	return out
}

func dynamic(list []claims.Prepared) []*podresourcesapi.DynamicResource {
	var out []*podresourcesapi.DynamicResource
	for _, d := range list {
		r := &podresourcesapi.ClaimResource{DriverName: d.Driver, PoolName: d.Pool, DeviceName: d.Device, ShareId: (*string)(d.ShareID)}
		for _, name := range d.CDI {
			r.CdiDevices = append(r.CdiDevices, &podresourcesapi.CDIDevice{Name: name})
		}
		if n := len(out); n > 0 && out[n-1].ClaimNamespace == d.Claim.Namespace && out[n-1].ClaimName == d.Claim.Name {
			out[n-1].ClaimResources = append(out[n-1].ClaimResources, r)
			continue
		}
		out = append(out, &podresourcesapi.DynamicResource{ClaimNamespace: d.Claim.Namespace, ClaimName: d.Claim.Name, ClaimResources: []*podresourcesapi.ClaimResource{r}})
	}
	return out
}

func numbers(set cpuset.CPUSet) []int64 {
	var out []int64
	for _, n := range set.List() {
		out = append(out, int64(n))
	}
	return out
}

func blocks(list []state.Block) []*podresourcesapi.ContainerMemory {
	var out []*podresourcesapi.ContainerMemory
	for _, b := range list {
		out = append(out, &podresourcesapi.ContainerMemory{MemoryType: string(b.Type), Size: b.Size, Topology: nodes(b.NUMAAffinity)})
	}
	return out
}

func nodes(ids []int) *podresourcesapi.TopologyInfo {
	if len(ids) == 0 {
		return nil
	}
	out := &podresourcesapi.TopologyInfo{}
	for _, id := range ids {
		out.Nodes = append(out.Nodes, &podresourcesapi.NUMANode{ID: int64(id)})
	}
	return out
}

// deviceStatus tells how the devices of a container are.
func (k *Kubelet) deviceStatus(pod *v1.Pod, name string) []v1.ResourceStatus {
	out := k.devices.Status(pod.UID, name)
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				out = append(out, k.claims.Status(pod, &list[i])...)
			}
		}
	}
	return out
}
