// Package admission decides whether the node can run a pod that was bound to
// it. It is a pure function of the pod, the node and the pods it has.
package admission

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"skiff/kubelet/resources"
)

// NodeAffinity is the reason of a pod that does not want this node.
const NodeAffinity = "NodeAffinity"

// Refusal is why a pod may not run here.
type Refusal struct{ Reason, Message string }

// Input is what the decision follows from.
type Input struct {
	Pod  *v1.Pod
	Node *v1.Node
	// Others are the pods that the node runs already.
	Others []*v1.Pod
	// Managed are the resources that are allocated one by one after this check.
	Managed func(v1.ResourceName) bool
	// UnsafeSysctls are allowed beside the safe ones; a trailing * is a prefix.
	UnsafeSysctls []string
	// AppArmor is whether the node's kernel confines by it.
	AppArmor bool
	// Pressure are the node's conditions of pressure.
	MemoryPressure, DiskPressure, PIDPressure bool
}

// Check returns nil when the pod may run.
func Check(in Input) *Refusal {
	for _, check := range []func(Input) *Refusal{pressure, sysctls, appArmor, nodeName, affinity, taints, ports, Fits, operatingSystem} {
		if r := check(in); r != nil {
			return r
		}
	}
	return nil
}

func pressure(in Input) *Refusal {
	if !in.MemoryPressure && !in.DiskPressure && !in.PIDPressure || resources.IsCritical(in.Pod) {
		return nil
	}
	var conditions []string
	if in.MemoryPressure {
		if !in.DiskPressure && !in.PIDPressure && (resources.QOS(in.Pod) != v1.PodQOSBestEffort ||
			corev1helpers.TolerationsTolerateTaint(klog.Background(), in.Pod.Spec.Tolerations, &v1.Taint{Key: v1.TaintNodeMemoryPressure, Effect: v1.TaintEffectNoSchedule}, false)) {
			return nil
		}
		conditions = append(conditions, "MemoryPressure")
	}
	if in.DiskPressure {
		conditions = append(conditions, "DiskPressure")
	}
	if in.PIDPressure {
		conditions = append(conditions, "PIDPressure")
	}
	return &Refusal{"Evicted", fmt.Sprintf("The node had condition: %v. ", conditions)}
}

// SafeSysctls are those that a pod may set without the node's leave.
func SafeSysctls() []string {
	return []string{
		"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
		"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
		"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
	}
}

func sysctls(in Input) *Refusal {
	sc := in.Pod.Spec.SecurityContext
	if sc == nil {
		return nil
	}
	allowed := append(SafeSysctls(), in.UnsafeSysctls...)
	for _, s := range sc.Sysctls {
		name := strings.ReplaceAll(s.Name, "/", ".")
		ok := slices.ContainsFunc(allowed, func(a string) bool {
			prefix, glob := strings.CutSuffix(a, "*")
			return name == a || glob && strings.HasPrefix(name, prefix)
		})
		if !ok {
			return &Refusal{"SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q not allowlisted", s.Name)}
		}
		if in.Pod.Spec.HostNetwork && strings.HasPrefix(name, "net.") {
			return &Refusal{"SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q not allowed with host net enabled", s.Name)}
		}
		if in.Pod.Spec.HostIPC && (strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || name == "kernel.sem" || strings.HasPrefix(name, "fs.mqueue.")) {
			return &Refusal{"SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q not allowed with host ipc enabled", s.Name)}
		}
	}
	return nil
}

func nodeName(in Input) *Refusal {
	if in.Pod.Spec.NodeName != "" && in.Node != nil && in.Pod.Spec.NodeName != in.Node.Name {
		return &Refusal{"NodeName", "Predicate NodeName failed: node(s) didn't match the requested node name"}
	}
	return nil
}

func affinity(in Input) *Refusal {
	if in.Node == nil || resources.IsStatic(in.Pod) {
		return nil
	}
	ok, err := nodeaffinity.GetRequiredNodeAffinity(in.Pod).Match(in.Node)
	if err != nil || !ok {
		return &Refusal{NodeAffinity, "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	return nil
}

func taints(in Input) *Refusal {
	if in.Node == nil || resources.IsStatic(in.Pod) {
		return nil
	}
	_, untolerated := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), in.Node.Spec.Taints, in.Pod.Spec.Tolerations, func(t *v1.Taint) bool {
		return t.Effect == v1.TaintEffectNoExecute
	}, false)
	if untolerated {
		return &Refusal{"TaintToleration", "Predicate TaintToleration failed: node(s) had untolerated taint(s)"}
	}
	return nil
}

func hostPorts(pod *v1.Pod) []v1.ContainerPort {
	var out []v1.ContainerPort
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			if p.HostPort > 0 {
				out = append(out, p)
			}
		}
	}
	return out
}

func ports(in Input) *Refusal {
	wanted := hostPorts(in.Pod)
	if len(wanted) == 0 {
		return nil
	}
	wild := func(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
	for _, other := range in.Others {
		for _, have := range hostPorts(other) {
			for _, want := range wanted {
				sameProtocol := have.Protocol == want.Protocol || have.Protocol == "" && want.Protocol == v1.ProtocolTCP || want.Protocol == "" && have.Protocol == v1.ProtocolTCP
				if have.HostPort == want.HostPort && sameProtocol && (have.HostIP == want.HostIP || wild(have.HostIP) || wild(want.HostIP)) {
					return &Refusal{"NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
				}
			}
		}
	}
	return nil
}

// TooLarge refuses a pod that the node could not hold if it had no other.
func TooLarge(in Input) *Refusal {
	if in.Node == nil {
		return nil
	}
	requests := resources.Requests(in.Pod)
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		want, have := requests[name], in.Node.Status.Allocatable[name]
		if want.Cmp(have) <= 0 {
			continue
		}
		amount, capacity := want.Value(), have.Value()
		if name == v1.ResourceCPU {
			amount, capacity = want.MilliValue(), have.MilliValue()
		}
		return &Refusal{"OutOf" + string(name), fmt.Sprintf("Node didn't have enough capacity: %s, requested: %d, capacity: %d", name, amount, capacity)}
	}
	return nil
}

// Fits refuses a pod that the node has no room for beside the others.
func Fits(in Input) *Refusal {
	if in.Node == nil {
		return nil
	}
	allocatable := in.Node.Status.Allocatable
	if pods, ok := allocatable[v1.ResourcePods]; ok && int64(len(in.Others)+1) > pods.Value() {
		return out(v1.ResourcePods, 1, int64(len(in.Others)), pods.Value())
	}
	if resources.IsStatic(in.Pod) && len(in.Others) == 0 {
		return nil
	}
	used := v1.ResourceList{}
	for _, other := range in.Others {
		for name, q := range resources.Requests(other) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	requests := resources.Requests(in.Pod)
	var names []string
	for name := range requests {
		names = append(names, string(name))
	}
	slices.Sort(names)
	for _, n := range names {
		name := v1.ResourceName(n)
		want, have := requests[name], allocatable[name]
		if _, offered := allocatable[name]; !offered && resources.Extended(name) {
			// A resource of the whole cluster: the scheduler counts it.
			continue
		}
		if want.IsZero() || in.Managed != nil && in.Managed(name) {
			continue
		}
		sum := used[name]
		sum.Add(want)
		if sum.Cmp(have) > 0 {
			taken := used[name]
			if name == v1.ResourceCPU {
				return out(name, want.MilliValue(), taken.MilliValue(), have.MilliValue())
			}
			return out(name, want.Value(), taken.Value(), have.Value())
		}
	}
	return nil
}

func out(name v1.ResourceName, requested, used, capacity int64) *Refusal {
	return &Refusal{"OutOf" + string(name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity)}
}

func operatingSystem(in Input) *Refusal {
	if in.Pod.Spec.OS != nil && in.Pod.Spec.OS.Name != v1.Linux {
		return &Refusal{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if in.Node != nil {
		for key, want := range map[string]string{v1.LabelOSStable: "linux"} {
			if have, ok := in.Pod.Spec.NodeSelector[key]; ok && have != want {
				return &Refusal{"PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
			}
		}
	}
	return nil
}
