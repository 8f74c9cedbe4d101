package containers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/podstate"
	"skiff/kubelet/resources"
)

// LogDir is where the logs of a pod's containers are.
func LogDir(root string, namespace, name, uid string) string {
	return filepath.Join(root, strings.Join([]string{namespace, name, uid}, "_"))
}

func (m *Manager) logDir(pod *v1.Pod) string {
	return LogDir(m.cfg.PodLogs, pod.Namespace, pod.Name, string(pod.UID))
}

func (m *Manager) sandboxConfig(pod *v1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	dns, err := m.cfg.Node.DNS(pod)
	if err != nil {
		return nil, err
	}
	users, err := m.cfg.Node.UserNamespace(pod)
	if err != nil {
		return nil, err
	}
	out := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		Labels:       podstate.PodLabels(pod),
		Annotations:  pod.Annotations,
		DnsConfig:    dns,
		LogDirectory: m.logDir(pod),
	}
	if out.Linux, err = m.linuxSandbox(pod, users); err != nil {
		return nil, err
	}
	if !pod.Spec.HostNetwork {
		if out.Hostname, _, err = m.cfg.Node.Hostname(pod); err != nil {
			return nil, err
		}
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, p := range list[i].Ports {
				if pod.Spec.HostNetwork {
					continue
				}
				out.PortMappings = append(out.PortMappings, &runtimeapi.PortMapping{
					HostIp: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: protocol(p.Protocol),
				})
			}
		}
	}
	return out, nil
}

func protocol(p v1.Protocol) runtimeapi.Protocol {
	switch p {
	case v1.ProtocolUDP:
		return runtimeapi.Protocol_UDP
	case v1.ProtocolSCTP:
		return runtimeapi.Protocol_SCTP
	}
	return runtimeapi.Protocol_TCP
}

// hasPrivileged tells whether any container of a pod is privileged. An ephemeral one may
// come long after the pod's sandbox; runtimes then look at what they are told with it.
func hasPrivileged(pod *v1.Pod) bool {
	privileged := func(sc *v1.SecurityContext) bool { return sc != nil && sc.Privileged != nil && *sc.Privileged }
	of := func(c v1.Container) bool { return privileged(c.SecurityContext) }
	return slices.ContainsFunc(pod.Spec.InitContainers, of) || slices.ContainsFunc(pod.Spec.Containers, of) ||
		slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c v1.EphemeralContainer) bool { return privileged(c.SecurityContext) })
}

func (m *Manager) linuxSandbox(pod *v1.Pod, users *runtimeapi.UserNamespace) (*runtimeapi.LinuxPodSandboxConfig, error) {
	sec := &runtimeapi.LinuxSandboxSecurityContext{
		Privileged:       hasPrivileged(pod),
		NamespaceOptions: namespaces(pod, nil, "", users),
		Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
	}
	out := &runtimeapi.LinuxPodSandboxConfig{CgroupParent: m.cfg.Node.CgroupParent(pod), SecurityContext: sec}
	if psc := pod.Spec.SecurityContext; psc != nil {
		if psc.RunAsUser != nil {
			sec.RunAsUser = &runtimeapi.Int64Value{Value: *psc.RunAsUser}
		}
		if psc.RunAsGroup != nil {
			sec.RunAsGroup = &runtimeapi.Int64Value{Value: *psc.RunAsGroup}
		}
		if psc.FSGroup != nil {
			sec.SupplementalGroups = append(sec.SupplementalGroups, *psc.FSGroup)
		}
		sec.SupplementalGroups = append(sec.SupplementalGroups, m.cfg.Node.SupplementalGroups(pod)...)
		sec.SupplementalGroups = append(sec.SupplementalGroups, psc.SupplementalGroups...)
		sec.SupplementalGroupsPolicy = groupsPolicy(psc)
		sec.SelinuxOptions = selinux(psc.SELinuxOptions)
		if psc.SeccompProfile != nil {
			var err error
			if sec.Seccomp, err = m.seccomp(psc.SeccompProfile); err != nil {
				return nil, err
			}
		}
		if len(psc.Sysctls) > 0 {
			out.Sysctls = map[string]string{}
			for _, s := range psc.Sysctls {
				out.Sysctls[strings.ReplaceAll(s.Name, "/", ".")] = s.Value
			}
		}
	}
	limits := resources.ForPod(pod, m.cfg.Settings, 0)
	out.Resources = &runtimeapi.LinuxContainerResources{CpuShares: limits.Shares, CpuPeriod: limits.Period, CpuQuota: limits.Quota, MemoryLimitInBytes: limits.Memory}
	if len(pod.Spec.Overhead) > 0 {
		out.Overhead = &runtimeapi.LinuxContainerResources{
			CpuShares:          resources.Shares(pod.Spec.Overhead.Cpu().MilliValue()),
			MemoryLimitInBytes: pod.Spec.Overhead.Memory().Value(),
		}
	}
	return out, nil
}

// namespaces says which namespaces a pod, or one of its containers, shares.
// target is the container whose process namespace an ephemeral one enters.
func namespaces(pod *v1.Pod, c *v1.Container, target string, users *runtimeapi.UserNamespace) *runtimeapi.NamespaceOption {
	out := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER, UsernsOptions: users}
	if pod.Spec.HostNetwork {
		out.Network = runtimeapi.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		out.Ipc = runtimeapi.NamespaceMode_NODE
	}
	switch {
	case pod.Spec.HostPID:
		out.Pid = runtimeapi.NamespaceMode_NODE
	case pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace:
		out.Pid = runtimeapi.NamespaceMode_POD
	case c != nil && target != "":
		out.Pid, out.TargetId = runtimeapi.NamespaceMode_TARGET, target
	}
	return out
}

func (m *Manager) createSandbox(ctx context.Context, pod *v1.Pod, config *runtimeapi.PodSandboxConfig, handler string) (string, []string, error) {
	fail := func(err error) error {
		m.podEvent(pod, v1.EventTypeWarning, "FailedCreatePodSandBox", fmt.Sprintf("Failed to create pod sandbox: %v", err))
		return fmt.Errorf("failed to %q for %q with CreatePodSandboxError: %w", "CreatePodSandbox", Full(pod), err)
	}
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		return "", nil, fail(err)
	}
	id, err := m.cfg.Runtime.RunPodSandbox(ctx, config, handler)
	if err != nil {
		return "", nil, fail(err)
	}
	status, err := m.cfg.Runtime.PodSandboxStatus(ctx, id, false)
	if err != nil {
		m.podEvent(pod, v1.EventTypeWarning, "FailedStatusPodSandBox", fmt.Sprintf("Unable to get pod sandbox status: %v", err))
		return "", nil, err
	}
	var ips []string
	if ip := status.GetStatus().GetNetwork().GetIp(); ip != "" {
		ips = append(ips, ip)
	}
	for _, extra := range status.GetStatus().GetNetwork().GetAdditionalIps() {
		ips = append(ips, extra.GetIp())
	}
	return id, ips, nil
}
