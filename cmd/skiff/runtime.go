package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	internalapi "k8s.io/cri-api/pkg/apis"
	criclient "k8s.io/cri-client/pkg"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	kubelettypes "k8s.io/kubelet/pkg/types"

	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/version"
	"skiff/kubelet"
	"skiff/kubelet/cri"
	"skiff/kubelet/cri/images"
	"skiff/kubelet/critrace"
	"skiff/kubelet/network"
)

// endpoints are where another container runtime than the built-in one listens.
type endpoints struct{ runtime, images string }

// externalRuntime finds the runtime that a node is to use: that of the kubelet's
// configuration, else of the registration's criSocket. Empty is the built-in one.
func externalRuntime(l layout.Layout, c *node.Config, conf *kubeletv1beta1.KubeletConfiguration) endpoints {
	own := "unix://" + l.CRISocket()
	e := endpoints{runtime: cmp.Or(conf.ContainerRuntimeEndpoint, c.Registration.CRISocket)}
	if e.runtime == "" || e.runtime == own {
		return endpoints{}
	}
	e.images = cmp.Or(conf.ImageServiceEndpoint, e.runtime)
	return e
}

const (
	// connectPatience is how long one try to reach a runtime may take.
	connectPatience = 10 * time.Second
	// callPatience is how long a runtime may take to answer what takes no time by
	// nature; upstream's default.
	callPatience = 2 * time.Minute
	// connectPause is between two tries.
	connectPause = 2 * time.Second
)

// connect reaches a container runtime, and waits for one that does not run yet: a
// node's other parts need not.
func (e endpoints) connect(ctx context.Context, tp trace.TracerProvider) (internalapi.RuntimeService, internalapi.ImageManagerService, error) {
	for told := false; ; told = true {
		runtime, images, err := e.dial(ctx, tp)
		if err == nil {
			return runtime, images, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if !told {
			slog.Error("the container runtime cannot be reached; it is tried again", "endpoint", e.runtime, "images", e.images, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(connectPause):
		}
	}
}

func (e endpoints) dial(ctx context.Context, tp trace.TracerProvider) (internalapi.RuntimeService, internalapi.ImageManagerService, error) {
	try, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	runtime, err := criclient.NewRemoteRuntimeServiceBuilder().WithEndpoint(e.runtime).WithTracerProvider(tp).WithConnectionTimeout(callPatience).Build(try)
	if err != nil {
		return nil, nil, fmt.Errorf("container runtime: %w", err)
	}
	images, err := criclient.NewRemoteImageServiceBuilder().WithEndpoint(e.images).WithTracerProvider(tp).WithConnectionTimeout(callPatience).Build(try)
	if err != nil {
		// The next try makes both anew.
		_ = runtime.Close(ctx)
		return nil, nil, fmt.Errorf("image service: %w", err)
	}
	return runtime, images, nil
}

// removePods ends and removes all pods of another runtime than skiff's own, which
// would keep them.
func (e endpoints) removePods(ctx context.Context) error {
	if e == (endpoints{}) {
		return nil
	}
	runtime, _, err := e.dial(ctx, nil)
	if err != nil {
		return err
	}
	defer runtime.Close(ctx)
	list, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var errs []error
	for _, sb := range list {
		if sb.Labels[kubelettypes.KubernetesPodUIDLabel] == "" {
			continue // not a kubelet's
		}
		err := runtime.StopPodSandbox(ctx, sb.Id)
		if err == nil {
			err = runtime.RemovePodSandbox(ctx, sb.Id)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove pod %s/%s: %w", sb.GetMetadata().GetNamespace(), sb.GetMetadata().GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// after runs a part once ready is closed.
func after(ready <-chan struct{}, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ready:
			return run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// externalParts are the kubelet on another runtime, whose own CNI configuration
// connects its pods.
func externalParts(e endpoints, cfg kubelet.Config, wait <-chan struct{}) []part {
	slog.Info("the node uses another container runtime than skiff's", "endpoint", e.runtime, "images", e.images)
	return []part{{"kubelet", true, after(wait, func(ctx context.Context) error {
		var err error
		if cfg.Runtime, cfg.Images, err = e.connect(ctx, cfg.Tracing); err != nil {
			return err
		}
		kl, err := kubelet.New(cfg)
		if err != nil {
			return err
		}
		return kl.Run(ctx)
	})}}
}

// builtInParts are the kubelet, skiff's runtime and its pod network, which backend
// leads between the nodes; ip is this one's address.
func builtInParts(l layout.Layout, cfg kubelet.Config, podCIDRs []netip.Prefix, backend network.Backend, ip netip.Addr, wait <-chan struct{}) ([]part, error) {
	ptpConfig := network.Config{StateDir: filepath.Join(l.State(), "network"), ClusterCIDRs: podCIDRs, Overhead: backend.Overhead(ip)}
	if backend == network.WireGuard {
		ptpConfig.Held = errors.New("WireGuard between the nodes is not up yet")
	}
	ptp, err := network.New(ptpConfig)
	if err != nil {
		return nil, err
	}
	cni, err := network.NewCNI(network.CNIConfig{ConfDir: l.CNIConfig(), BinDirs: []string{l.CNIBin()}, CacheDir: filepath.Join(l.State(), "cni")})
	if err != nil {
		return nil, err
	}
	if _, err := images.LoadRegistries(l.Registries()); err != nil {
		slog.Error("No image can be pulled until the file of the registries is put right", "err", err)
	}
	runtime, err := cri.New(cri.Config{
		StateDir: l.CRI(), RunDir: filepath.Join(l.Run(), "pods"), Socket: l.CRISocket(), CgroupRoot: l.CgroupRoot(),
		Registries: l.Registries(), Network: &network.Auto{CNI: cni, BuiltIn: ptp, Dir: filepath.Join(l.State(), "cni-pods")},
		SeccompDir: filepath.Join(l.Kubelet(), "seccomp"), CDIDirs: []string{l.Path("etc/cdi"), l.Path("var/run/cdi")}, Version: strings.TrimPrefix(version.Version, "v"),
	})
	if err != nil {
		return nil, err
	}
	cfg.Runtime, cfg.Images, cfg.Streaming = runtime, runtime, runtime.StreamingHandler()
	told := cfg.OnNode
	cfg.OnNode = func(n *corev1.Node) {
		told(n)
		setPodCIDRs(ptp, n)
	}
	if cfg.Tracing != nil {
		cfg.Runtime, cfg.Images = critrace.Runtime{RuntimeService: runtime}, critrace.Images{ImageManagerService: runtime}
	}
	kl, err := kubelet.New(cfg)
	if err != nil {
		return nil, err
	}
	return []part{
		{"runtime", true, runtime.Run},
		{"kubelet", true, after(runtime.Ready(), after(wait, kl.Run))},
		{"overlay", false, after(wait, func(ctx context.Context) error {
			f := informers.NewSharedInformerFactory(cfg.Client, 0)
			o, err := network.NewOverlay(network.OverlayConfig{
				NodeName: cfg.NodeName, Nodes: f.Core().V1().Nodes(), Network: ptp, Backend: backend,
				WireGuard: network.WireGuardConfig{Client: cfg.Client, KeyFile: filepath.Join(l.State(), "wireguard.key"), ClusterCIDRs: podCIDRs},
			})
			if err != nil {
				return err
			}
			f.Core().V1().Nodes().Informer()
			f.StartWithContext(ctx)
			defer f.Shutdown()
			return o.Run(ctx)
		})},
	}, nil
}

// setPodCIDRs gives the pod network the node's ranges, once it has some.
func setPodCIDRs(ptp *network.PointToPoint, n *corev1.Node) {
	var list []netip.Prefix
	for _, text := range n.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return
	}
	if err := ptp.SetPodCIDRs(context.Background(), list); err != nil {
		slog.Error("the node's pod network could not be prepared", "podCIDRs", n.Spec.PodCIDRs, "err", err)
	}
}
