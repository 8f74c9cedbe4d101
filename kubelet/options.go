package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/containers"
	"skiff/kubelet/environment"
	"skiff/kubelet/logs"
	"skiff/kubelet/podnet"
	"skiff/kubelet/podstate"
	"skiff/kubelet/volumes/volume"
)

// ContainerOptions implements containers.Node.
func (k *Kubelet) ContainerOptions(ctx context.Context, pod *v1.Pod, c *v1.Container, podIPs []string) (*containers.Options, error) {
	if pod.Spec.HostNetwork {
		podIPs = k.cfg.NodeIPs
	}
	envs, err := k.environment(ctx, pod, c, podIPs)
	if err != nil {
		return nil, err
	}
	out := &containers.Options{Envs: envs}
	if out.Mounts, err = k.mounts(pod, c, environment.In(environment.Map(envs))); err != nil {
		return nil, err
	}
	if out.Devices, err = k.blockDevices(pod, c); err != nil {
		return nil, err
	}
	if err := k.deviceOptions(ctx, pod, c, out); err != nil {
		return nil, err
	}
	hasHosts := false
	for _, m := range c.VolumeMounts {
		hasHosts = hasHosts || filepath.Clean(m.MountPath) == "/etc/hosts"
	}
	if !hasHosts && len(podIPs) > 0 {
		hostname, domain, err := podnet.Hostname(pod, k.cfg.Kubelet.ClusterDomain)
		if err != nil {
			return nil, err
		}
		path, err := podnet.WriteHosts(k.volumes.PodDir(pod.UID), pod, podIPs, hostname, domain)
		if err != nil {
			return nil, err
		}
		out.Mounts = append(out.Mounts, &runtimeapi.Mount{HostPath: path, ContainerPath: "/etc/hosts"})
	}
	return out, nil
}

func (k *Kubelet) environment(ctx context.Context, pod *v1.Pod, c *v1.Container, podIPs []string) ([]environment.Var, error) {
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if !cache.WaitForCacheSync(wait.Done(), k.synced...) {
		return nil, fmt.Errorf("services have not yet been read at least once, cannot construct envvars")
	}
	services, err := k.services.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	return environment.Build(pod, c, environment.Sources{
		ConfigMap: func(ns, name string) (*v1.ConfigMap, error) { return k.objects.ConfigMap(ctx, ns, name) },
		Secret:    func(ns, name string) (*v1.Secret, error) { return k.objects.Secret(ctx, ns, name) },
		EnvFile: func(name, path string) (map[string]string, error) {
			v, ok := k.volumes.Mounted(pod.UID)[name]
			if !ok {
				return nil, fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", name)
			}
			root, err := os.OpenRoot(v.Path)
			if err != nil {
				return nil, err
			}
			defer func() { _ = root.Close() }()
			data, err := root.ReadFile(path)
			if err != nil {
				return nil, err
			}
			return environment.ParseFile(string(data))
		},
		Services: services, Allocatable: k.allocatable, HostIPs: k.cfg.NodeIPs, PodIPs: podIPs,
	})
}

func (k *Kubelet) mounts(pod *v1.Pod, c *v1.Container, lookup func(string) (string, bool)) ([]*runtimeapi.Mount, error) {
	ready := k.volumes.Mounted(pod.UID)
	var out []*runtimeapi.Mount
	for i, m := range c.VolumeMounts {
		v, ok := ready[m.Name]
		if !ok {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", m.Name, c.Name)
		}
		if v.Block {
			continue
		}
		mount, err := k.mount(pod, c, i, v, lookup)
		if err != nil {
			return nil, err
		}
		out = append(out, mount)
	}
	return out, nil
}

func (k *Kubelet) mount(pod *v1.Pod, c *v1.Container, index int, v volume.Mounted, lookup func(string) (string, bool)) (*runtimeapi.Mount, error) {
	m := &c.VolumeMounts[index]
	target := m.MountPath
	if !filepath.IsAbs(target) {
		target = "/" + target
	}
	out := &runtimeapi.Mount{ContainerPath: target, HostPath: v.Path, Readonly: m.ReadOnly || v.ReadOnly, Propagation: propagation(m.MountPropagation)}
	if m.ReadOnly && m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != v1.RecursiveReadOnlyDisabled {
		supported := k.runtimeState.recursiveReadOnly("")
		if *m.RecursiveReadOnly == v1.RecursiveReadOnlyEnabled && !supported {
			return nil, fmt.Errorf("failed to resolve recursive read-only mode: the runtime does not support recursive read-only mounts")
		}
		out.RecursiveReadOnly = supported
	}
	path := m.SubPath
	if m.SubPathExpr != "" {
		var missing []string
		path = environment.Expand(m.SubPathExpr, func(name string) (string, bool) {
			value, ok := lookup(name)
			if !ok {
				missing = append(missing, name)
			}
			return value, ok
		})
		if len(missing) > 0 {
			return nil, fmt.Errorf("missing value for %q", strings.Join(missing, ", "))
		}
	}
	if v.Image != "" {
		out.HostPath, out.Image, out.ImageSubPath = "", &runtimeapi.ImageSpec{Image: v.Image}, path
		return out, nil
	}
	if path != "" {
		if filepath.IsAbs(path) {
			return nil, fmt.Errorf("error SubPath `%s` must not be an absolute path", path)
		}
		if strings.Contains("/"+path+"/", "/../") {
			return nil, fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", path)
		}
		host, err := k.volumes.SubPath(pod.UID, v, m.Name, c.Name, path, index)
		if err != nil {
			return nil, fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q: %w", m.Name, c.Name, err)
		}
		out.HostPath = host
	}
	return out, nil
}

func propagation(mode *v1.MountPropagationMode) runtimeapi.MountPropagation {
	if mode != nil {
		switch *mode {
		case v1.MountPropagationHostToContainer:
			return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		case v1.MountPropagationBidirectional:
			return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
		}
	}
	return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
}

func (k *Kubelet) blockDevices(pod *v1.Pod, c *v1.Container) ([]*runtimeapi.Device, error) {
	ready := k.volumes.Mounted(pod.UID)
	var out []*runtimeapi.Device
	for _, d := range c.VolumeDevices {
		v, ok := ready[d.Name]
		if !ok || !v.Block {
			return nil, fmt.Errorf("cannot find block volume %q to map into container %q", d.Name, c.Name)
		}
		permissions := "mrw"
		if v.ReadOnly {
			permissions = "r"
		}
		out = append(out, &runtimeapi.Device{HostPath: v.Path, ContainerPath: d.DevicePath, Permissions: permissions})
	}
	return out, nil
}

// CgroupParent implements containers.Node.
func (k *Kubelet) CgroupParent(pod *v1.Pod) string {
	if k.cgroups == nil {
		return ""
	}
	return k.cgroups.PodPath(pod)
}

// DNS implements containers.Node.
func (k *Kubelet) DNS(pod *v1.Pod) (*runtimeapi.DNSConfig, error) { return k.dns.For(pod) }

// Hostname implements containers.Node.
func (k *Kubelet) Hostname(pod *v1.Pod) (string, string, error) {
	return podnet.Hostname(pod, k.cfg.Kubelet.ClusterDomain)
}

// RuntimeHandler implements containers.Node.
func (k *Kubelet) RuntimeHandler(ctx context.Context, pod *v1.Pod) (string, error) {
	if pod.Spec.RuntimeClassName == nil || *pod.Spec.RuntimeClassName == "" {
		return "", nil
	}
	class, err := k.cfg.Client.NodeV1().RuntimeClasses().Get(ctx, *pod.Spec.RuntimeClassName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("failed to get sandbox runtime: %w", err)
	}
	return class.Handler, nil
}

// SupplementalGroups implements containers.Node.
func (k *Kubelet) SupplementalGroups(pod *v1.Pod) []int64 { return k.volumes.Groups(pod.UID) }

// UserNamespace implements containers.Node.
func (k *Kubelet) UserNamespace(pod *v1.Pod) (*runtimeapi.UserNamespace, error) {
	return k.users.For(pod)
}

const (
	maxWords         = 4096
	maxFallbackBytes = 2048
	maxFallbackLines = 80
)

// lastWords reads a dead container's termination message.
func lastWords(c *podstate.Container) string {
	path := c.Annotations[podstate.AnnotationTerminationMessagePath]
	for _, m := range c.Mounts {
		if path == "" || m.ContainerPath != path {
			continue
		}
		// The container wrote the file: read no more than its due, and follow
		// no link that it may have planted.
		f, err := logs.Open(m.HostPath)
		if err != nil {
			break
		}
		buf := make([]byte, maxWords)
		n, _ := f.Read(buf)
		_ = f.Close()
		if n > 0 {
			return string(buf[:n])
		}
	}
	if c.ExitCode != 0 && c.Annotations[podstate.AnnotationTerminationMessagePolicy] == string(v1.TerminationMessageFallbackToLogsOnError) {
		return logs.Tail(c.LogPath, maxFallbackLines, maxFallbackBytes)
	}
	return ""
}

// splitID splits runtime://identifier.
func splitID(id string) (runtime, plain string) {
	runtime, plain, ok := strings.Cut(id, "://")
	if !ok {
		return "", id
	}
	return runtime, plain
}
