package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"k8s.io/klog/v2"
)

// CNIConfig configures the CNI plugins.
type CNIConfig struct {
	// ConfDir holds the network configuration; the first file by name counts.
	ConfDir string
	// BinDirs hold the plugins.
	BinDirs []string
	// CacheDir keeps what was set up.
	CacheDir string
	// Timeout bounds one call of the plugins. Default 4 minutes.
	Timeout time.Duration
	// StatusTimeout bounds the question how a network is, which the node's own
	// readiness waits for. Default 10 seconds.
	StatusTimeout time.Duration
}

// CNI connects pods by CNI plugins.
type CNI struct {
	cfg CNIConfig
	lib *libcni.CNIConfig
}

// NewCNI checks the configuration.
func NewCNI(cfg CNIConfig) (*CNI, error) {
	if cfg.ConfDir == "" || len(cfg.BinDirs) == 0 || cfg.CacheDir == "" {
		return nil, errors.New("network: CNI: ConfDir, BinDirs and CacheDir are required")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 4 * time.Minute
	}
	if cfg.StatusTimeout == 0 {
		cfg.StatusTimeout = 10 * time.Second
	}
	return &CNI{cfg: cfg, lib: libcni.NewCNIConfigWithCacheDir(cfg.BinDirs, cfg.CacheDir, &pluginExec{})}, nil
}

// Configured tells whether there is a network configuration.
func (c *CNI) Configured() bool {
	files, err := libcni.ConfFiles(c.cfg.ConfDir, []string{".conf", ".conflist", ".json"})
	return err == nil && len(files) > 0
}

// list loads the configuration. It is read anew for each use, as the files of
// many networks are written by pods.
func (c *CNI) list() (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(c.cfg.ConfDir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var errs []error
	for _, f := range files {
		var list *libcni.NetworkConfigList
		var err error
		if filepath.Ext(f) == ".conflist" {
			list, err = libcni.NetworkConfFromFile(f)
		} else {
			var one *libcni.PluginConfig
			if one, err = pluginFromFile(f); err == nil {
				list, err = libcni.ConfListFromConf(one)
			}
		}
		if err == nil && len(list.Plugins) > 0 {
			return list, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", f, err))
	}
	return nil, fmt.Errorf("%w: cni plugin not initialized: no network configuration in %s: %w", ErrNotReady, c.cfg.ConfDir, errors.Join(errs...))
}

func pluginFromFile(file string) (*libcni.PluginConfig, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return libcni.NetworkPluginConfFromBytes(data)
}

func (c *CNI) runtimeConf(pod Pod) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: pod.ID, NetNS: pod.NetNSPath, IfName: podInterface,
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", pod.Namespace}, {"K8S_POD_NAME", pod.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", pod.ID}, {"K8S_POD_UID", pod.UID},
		},
		CapabilityArgs: map[string]any{},
	}
	type portMapping struct {
		HostPort      int32  `json:"hostPort"`
		ContainerPort int32  `json:"containerPort"`
		Protocol      string `json:"protocol"`
		HostIP        string `json:"hostIP"`
	}
	var ports []portMapping
	for _, m := range pod.PortMappings {
		p := portMapping{HostPort: int32(m.HostPort), ContainerPort: int32(m.ContainerPort), Protocol: string(m.Protocol)}
		if m.HostIP.IsValid() {
			p.HostIP = m.HostIP.String()
		}
		ports = append(ports, p)
	}
	if len(ports) > 0 {
		rt.CapabilityArgs["portMappings"] = ports
	}
	if b := pod.Bandwidth; b != (Bandwidth{}) {
		args := map[string]uint64{}
		if b.Ingress > 0 {
			args["ingressRate"], args["ingressBurst"] = b.Ingress, 1<<31-1
		}
		if b.Egress > 0 {
			args["egressRate"], args["egressBurst"] = b.Egress, 1<<31-1
		}
		rt.CapabilityArgs["bandwidth"] = args
	}
	if len(pod.DNSServers) > 0 {
		rt.CapabilityArgs["dns"] = map[string]any{"servers": pod.DNSServers, "searches": pod.DNSSearches, "options": pod.DNSOptions}
	}
	if len(pod.Annotations) > 0 {
		rt.CapabilityArgs["io.kubernetes.cri.pod-annotations"] = pod.Annotations
	}
	return rt
}

// Setup implements Plugin.
func (c *CNI) Setup(ctx context.Context, pod Pod) (Result, error) {
	list, err := c.list()
	if err != nil {
		return Result{}, err
	}
	return c.setup(ctx, pod, list)
}

func (c *CNI) setup(ctx context.Context, pod Pod, list *libcni.NetworkConfigList) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	raw, err := c.lib.AddNetworkList(ctx, list, c.runtimeConf(pod))
	if err != nil {
		return Result{}, err // it names the plugin and what it was to do
	}
	return cniResult(raw)
}

func cniResult(raw types.Result) (Result, error) {
	r, err := types100.NewResultFromResult(raw)
	if err != nil {
		return Result{}, fmt.Errorf("result of the CNI plugins: %w", err)
	}
	out := Result{Interface: podInterface}
	for _, ip := range r.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			out.IPs = append(out.IPs, a.Unmap())
		}
	}
	for _, i := range r.Interfaces {
		if i.Name == podInterface && i.Sandbox != "" {
			out.MAC = i.Mac
		}
	}
	if len(out.IPs) == 0 {
		return Result{}, errors.New("the CNI plugins gave the pod no address")
	}
	return out, nil
}

// Teardown implements Plugin. A pod is taken down by the networks that it was
// set up by, whatever the configuration says now.
func (c *CNI) Teardown(ctx context.Context, pod Pod) error { return c.teardown(ctx, pod, nil) }

// teardown knows the configuration by which the pod's setup began, if somebody has
// remembered it.
func (c *CNI) teardown(ctx context.Context, pod Pod, began []byte) error {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	attached, err := c.lib.GetCachedAttachments(pod.ID)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range attached {
		list, err := libcni.NetworkConfFromBytes(a.Config)
		if err != nil {
			errs = append(errs, fmt.Errorf("configuration that network %q was set up by: %w", a.Network, err))
			continue
		}
		errs = append(errs, c.lib.DelNetworkList(ctx, list, &libcni.RuntimeConf{
			ContainerID: a.ContainerID, NetNS: pod.NetNSPath, IfName: a.IfName, Args: a.CniArgs, CapabilityArgs: a.CapabilityArgs,
		}))
	}
	if len(attached) > 0 {
		return errors.Join(errs...)
	}
	// It was not set up to the end.
	if len(began) > 0 {
		return c.undo(outer, pod, began)
	}
	list, err := c.list()
	if errors.Is(err, ErrNotReady) {
		return nil // without plugins there is no one to ask
	}
	if err != nil {
		return err
	}
	return c.lib.DelNetworkList(ctx, list, c.runtimeConf(pod))
}

// undo takes down what a setup began. A plugin that cannot is tried again, as long as
// the node's configuration has it: somebody may repair it. Once it has not, the others
// give back what they gave, and it keeps nobody's pod from its end.
func (c *CNI) undo(ctx context.Context, pod Pod, began []byte) error {
	list, err := libcni.NetworkConfFromBytes(began)
	if err != nil {
		return fmt.Errorf("configuration that the pod's setup began with: %w", err)
	}
	remove := func(list *libcni.NetworkConfigList) error {
		// Each has its time: one that hangs takes the others' not away.
		ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
		return c.lib.DelNetworkList(ctx, list, c.runtimeConf(pod))
	}
	if err = remove(list); err == nil {
		return nil
	}
	if now, nowErr := c.list(); nowErr == nil && bytes.Equal(now.Bytes, began) {
		return err
	}
	for _, p := range slices.Backward(list.Plugins) {
		one := *list
		one.Plugins = []*libcni.PluginConfig{p}
		if err := remove(&one); err != nil {
			klog.FromContext(ctx).Info("A CNI plugin that is no longer configured leaves what it made", "pod", pod.Namespace+"/"+pod.Name, "err", err)
		}
	}
	return nil
}

// Check implements Plugin.
func (c *CNI) Check(ctx context.Context, pod Pod) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.StatusTimeout)
	defer cancel()
	list, err := c.list()
	if err != nil {
		return err
	}
	return c.lib.CheckNetworkList(ctx, list, c.runtimeConf(pod))
}

// Status implements Plugin.
func (c *CNI) Status(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.StatusTimeout)
	defer cancel()
	list, err := c.list()
	if err != nil {
		return err
	}
	return c.lib.GetStatusNetworkList(ctx, list)
}

// Auto is the CNI plugins where a node has a configuration for them, else the
// built-in network. Which one a pod was set up by is remembered by the folder
// Dir, so that the same takes it down: for each pod of CNI plugins it has a file with
// their configuration.
type Auto struct {
	CNI     *CNI
	BuiltIn *PointToPoint
	Dir     string

	mu sync.Mutex
}

func (a *Auto) mark(id string) string { return filepath.Join(a.Dir, id) }

// Setup implements Plugin.
func (a *Auto) Setup(ctx context.Context, pod Pod) (Result, error) {
	if !a.CNI.Configured() {
		return a.BuiltIn.Setup(ctx, pod)
	}
	list, err := a.CNI.list()
	if err != nil {
		return Result{}, err
	}
	a.mu.Lock()
	if err = os.MkdirAll(a.Dir, 0o700); err == nil {
		err = os.WriteFile(a.mark(pod.ID), list.Bytes, 0o600)
	}
	a.mu.Unlock()
	if err != nil {
		return Result{}, err
	}
	return a.CNI.setup(ctx, pod, list)
}

// ofCNI tells whether CNI plugins set a pod up, and the configuration that they began
// with; it is empty where the process was killed while it was written.
func (a *Auto) ofCNI(id string) (began []byte, ok bool) {
	began, err := os.ReadFile(a.mark(id))
	return began, err == nil
}

// Teardown implements Plugin.
func (a *Auto) Teardown(ctx context.Context, pod Pod) error {
	began, ok := a.ofCNI(pod.ID)
	if !ok {
		return a.BuiltIn.Teardown(ctx, pod)
	}
	if !json.Valid(began) {
		began = nil
	}
	if err := a.CNI.teardown(ctx, pod, began); err != nil {
		return err
	}
	return os.Remove(a.mark(pod.ID))
}

// Check implements Plugin.
func (a *Auto) Check(ctx context.Context, pod Pod) error {
	if _, ok := a.ofCNI(pod.ID); ok {
		return a.CNI.Check(ctx, pod)
	}
	return a.BuiltIn.Check(ctx, pod)
}

// Status implements Plugin.
func (a *Auto) Status(ctx context.Context) error {
	if a.CNI.Configured() {
		return a.CNI.Status(ctx)
	}
	return a.BuiltIn.Status(ctx)
}

// Reconcile implements Reconciler.
func (a *Auto) Reconcile(ctx context.Context, live []string) error {
	errs := []error{a.BuiltIn.Reconcile(ctx, live)}
	entries, err := os.ReadDir(a.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries {
		if !slices.Contains(live, e.Name()) {
			errs = append(errs, a.Teardown(ctx, Pod{ID: e.Name()}))
		}
	}
	return errors.Join(errs...)
}
