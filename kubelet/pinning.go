package kubelet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/cpuset"

	"skiff/kubelet/cpus"
	"skiff/kubelet/memory"
	"skiff/kubelet/nodestatus"
	"skiff/kubelet/podstate"
	"skiff/kubelet/topology"
)

// reserveCPUs makes a list of reserved CPUs count for their number.
func reserveCPUs(c *kubeletv1beta1.KubeletConfiguration) {
	set, err := cpuset.Parse(c.ReservedSystemCPUs)
	if err != nil || set.IsEmpty() {
		return // the configuration was checked
	}
	c.KubeReserved, c.SystemReserved = maps.Clone(c.KubeReserved), maps.Clone(c.SystemReserved)
	delete(c.KubeReserved, string(v1.ResourceCPU))
	if c.SystemReserved == nil {
		c.SystemReserved = map[string]string{}
	}
	c.SystemReserved[string(v1.ResourceCPU)] = fmt.Sprint(set.Size())
}

func (k *Kubelet) readTopology() (topology.Machine, error) {
	if k.cfg.Machine != nil {
		return *k.cfg.Machine, nil
	}
	sys, err := os.OpenRoot("/sys")
	if err != nil {
		return topology.Machine{}, err
	}
	defer func() { _ = sys.Close() }()
	return topology.Read(sys)
}

// buildPinning makes what keeps containers to CPUs and to memory of NUMA nodes.
func (k *Kubelet) buildPinning(machine topology.Machine) error {
	c := k.cfg.Kubelet
	options, err := cpus.ParseOptions(c.CPUManagerPolicyOptions, c.FeatureGates)
	if err != nil {
		return fmt.Errorf("cpuManagerPolicyOptions: %w", err)
	}
	reserved, err := cpuset.Parse(c.ReservedSystemCPUs)
	if err != nil {
		return fmt.Errorf("reservedSystemCPUs %q: %w", c.ReservedSystemCPUs, err)
	}
	total, err := k.keptBack()
	if err != nil {
		return err
	}
	k.cpus, err = cpus.New(cpus.Config{
		Policy: c.CPUManagerPolicy, Options: options, Machine: machine, Reserved: reserved, ReservedMilli: total.Cpu().MilliValue(),
		Dir: k.cfg.Paths.Root, Changed: func() {
			select {
			case k.cpusChanged <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		return fmt.Errorf("CPU manager: %w", err)
	}
	k.memory, err = memory.New(memory.Config{Policy: c.MemoryManagerPolicy, Machine: machine, Reserved: c.ReservedMemory, Total: total, Dir: k.cfg.Paths.Root})
	if err != nil {
		return fmt.Errorf("memory manager: %w", err)
	}
	return nil
}

// keptBack is what of the node's resources is not for pods.
func (k *Kubelet) keptBack() (v1.ResourceList, error) {
	c := k.cfg.Kubelet
	out := v1.ResourceList{}
	add := func(name v1.ResourceName, q resource.Quantity) {
		sum := out[name]
		sum.Add(q)
		out[name] = sum
	}
	for _, list := range []map[string]string{c.KubeReserved, c.SystemReserved} {
		for name, text := range list {
			q, err := resource.ParseQuantity(text)
			if err != nil {
				return nil, fmt.Errorf("reserved %s=%q: %w", name, text, err)
			}
			add(v1.ResourceName(name), q)
		}
	}
	if text, ok := c.EvictionHard["memory.available"]; ok {
		n, err := nodestatus.Threshold(text, k.machine.Memory)
		if err != nil {
			return nil, fmt.Errorf("evictionHard memory.available=%q: %w", text, err)
		}
		add(v1.ResourceMemory, *resource.NewQuantity(n, resource.BinarySI))
	}
	return out, nil
}

// keepCPUs moves running containers when the CPUs that they are to use change:
// what one container gets to itself the others have to leave.
func (k *Kubelet) keepCPUs(ctx context.Context) error {
	if k.cfg.Kubelet.CPUManagerPolicy != cpus.Static {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(k.cfg.Kubelet.CPUManagerReconcilePeriod.Duration)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.cpusChanged:
		case <-ticker.C:
		}
		for _, pod := range k.ActivePods() {
			if err := k.moveContainers(ctx, pod); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).Info("Moving a pod's containers to their CPUs failed, will try again", "pod", klog.KObj(pod), "err", err)
			}
		}
	}
}

func (k *Kubelet) moveContainers(ctx context.Context, pod *v1.Pod) error {
	state, err := podstate.Read(ctx, k.cfg.Runtime, pod.UID)
	if err != nil {
		return err
	}
	for _, c := range state.Running() {
		want := k.cpus.Of(pod.UID, c.Name).String()
		if want == "" || c.Resources != nil && c.Resources.CpusetCpus == want {
			continue
		}
		if err := k.manager.UpdateResources(ctx, c.ID, &runtimeapi.LinuxContainerResources{CpusetCpus: want}); err != nil {
			return fmt.Errorf("container %s to CPUs %s: %w", c.Name, want, err)
		}
	}
	return nil
}

// setAsideAgain keeps CPUs and memory for the containers of a pod that an earlier
// kubelet started and whose state files are gone, from the NUMA nodes that they are on.
// What was kept stays as it is, and where there is no room the pod runs on all the same.
func (k *Kubelet) setAsideAgain(ctx context.Context, pod *v1.Pod, state *podstate.Pod) error {
	at, all := map[string]topology.Mask{}, topology.Mask(0)
	for _, c := range state.Running() {
		nodes, err := cpuset.Parse(c.Resources.GetCpusetMems())
		if err != nil {
			return fmt.Errorf("container %s: memory nodes %q: %w", c.Name, c.Resources.GetCpusetMems(), err)
		}
		at[c.Name] = topology.NewMask(nodes.List()...)
		all |= at[c.Name]
	}
	var errs []error
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			hint := topology.Hint{Nodes: all}
			if nodes := at[list[i].Name]; nodes != 0 {
				hint.Nodes = nodes
			}
			for _, p := range []topology.Provider{k.cpus, k.memory} {
				if err := p.Allocate(ctx, pod, &list[i], hint); err != nil {
					errs = append(errs, fmt.Errorf("container %s: %w", list[i].Name, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}
