package cri

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"skiff/kubelet/cri/shimapi"
	"skiff/kubelet/network"
)

// sandbox is a pod sandbox that is ready or stopped.
type sandbox struct {
	id   string
	dir  string // of its shim
	disk string // of its record, and of the files that its containers may write
	cfg  *runtimeapi.PodSandboxConfig
	shim *shimapi.Client

	// op is held by whoever changes the sandbox's phase.
	op sync.Mutex

	mu  sync.Mutex
	rec sandboxRecord // guarded by mu
}

func (sb *sandbox) phase() phase { return sb.record().Phase }

func (sb *sandbox) record() sandboxRecord {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return sb.rec
}

func (sb *sandbox) namespaces() *runtimeapi.NamespaceOption {
	if o := sb.cfg.GetLinux().GetSecurityContext().GetNamespaceOptions(); o != nil {
		return o
	}
	return &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
}

func (sb *sandbox) hostNetwork() bool {
	return sb.namespaces().Network == runtimeapi.NamespaceMode_NODE
}

func (sb *sandbox) nsPath(kind string) string {
	return filepath.Join(sb.dir, shimapi.NamespaceDir, kind)
}

func (sb *sandbox) state() runtimeapi.PodSandboxState {
	if sb.phase() == phaseReady {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

func (sb *sandbox) status() *runtimeapi.PodSandboxStatus {
	state := sb.state()
	sb.mu.Lock()
	defer sb.mu.Unlock()
	out := &runtimeapi.PodSandboxStatus{
		Id: sb.id, Metadata: sb.cfg.Metadata, State: state, CreatedAt: sb.rec.CreatedAt,
		Labels: sb.cfg.Labels, Annotations: sb.cfg.Annotations, RuntimeHandler: sb.rec.Handler,
		Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux:   &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: sb.namespaces()}},
	}
	for i, ip := range sb.rec.Network.IPs {
		if i == 0 {
			out.Network.Ip = ip.String()
			continue
		}
		out.Network.AdditionalIps = append(out.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip.String()})
	}
	return out
}

// change edits the record and writes it before anyone sees it.
func (r *Runtime) changeSandbox(sb *sandbox, edit func(*sandboxRecord)) error {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	next := sb.rec
	edit(&next)
	if err := writeRecord(r.sandboxDir(sb.id), next); err != nil {
		return err
	}
	sb.rec = next
	return nil
}

func (r *Runtime) sandbox(id string) (*sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sb := r.sandboxes[id]; sb != nil {
		return sb, nil
	}
	if full, ok := unique(r.sandboxes, id); ok {
		return r.sandboxes[full], nil
	}
	return nil, notFound("pod sandbox", id)
}

// unique completes an ID that is cut short, as people type it.
func unique[T any](all map[string]T, prefix string) (string, bool) {
	if prefix == "" {
		return "", false
	}
	found := ""
	for id := range all {
		if strings.HasPrefix(id, prefix) {
			if found != "" {
				return "", false
			}
			found = id
		}
	}
	return found, found != ""
}

// RunPodSandbox implements RuntimeService.
func (r *Runtime) RunPodSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	if cfg.GetMetadata() == nil {
		return "", invalid("sandbox config must include metadata")
	}
	if handler != "" && handler != "skiff" && handler != "runc" {
		return "", invalid("no runtime for %q is configured", handler)
	}
	users := cfg.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions()
	if err := checkUserNamespace(users); err != nil {
		return "", err
	}
	if mapped(users) {
		if err := reachable(r.containerRoot()); err != nil {
			return "", coded(err)
		}
	}
	id := newID()
	name := sandboxName(cfg.Metadata)
	if err := r.reserve(name, id); err != nil {
		return "", coded(err)
	}
	data, err := proto.Marshal(cfg)
	if err != nil {
		r.unreserve(name, id)
		return "", coded(err)
	}
	sb := r.newSandbox(sandboxRecord{ID: id, Config: data, Handler: handler, CreatedAt: time.Now().UnixNano(), Phase: phaseCreating}, cfg)
	if err := r.setUpSandbox(ctx, sb); err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if cerr := r.destroySandbox(cleanup, sb); cerr != nil {
			klog.FromContext(ctx).Error(cerr, "Could not clean up after a failed pod sandbox; its client may stop it", "sandbox", id)
			r.endSandbox(ctx, sb)
			return "", coded(err)
		}
		r.unreserve(name, id)
		return "", coded(err)
	}
	r.mu.Lock()
	r.sandboxes[id] = sb
	r.mu.Unlock()
	r.watch(sb)
	r.emit(id, sb, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	r.emit(id, sb, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return id, nil
}

// checkUserNamespace refuses what would not be the namespace that was asked for:
// the node's own users, or one that has no root.
func checkUserNamespace(u *runtimeapi.UserNamespace) error {
	if u == nil || u.Mode == runtimeapi.NamespaceMode_NODE {
		return nil
	}
	if u.Mode != runtimeapi.NamespaceMode_POD {
		return invalid("unsupported user namespace mode: %q", u.Mode)
	}
	for _, ids := range []struct {
		name     string
		mappings []*runtimeapi.IDMapping
	}{{"uids", u.Uids}, {"gids", u.Gids}} {
		if len(ids.mappings) != 1 {
			return invalid("user namespace: %d mappings of %s: want one", len(ids.mappings), ids.name)
		}
		if m := ids.mappings[0]; m.GetContainerId() != 0 || m.GetLength() == 0 {
			return invalid("user namespace: the mapping of %s begins at %d and has %d ids: want it to begin at 0, with at least one", ids.name, m.GetContainerId(), m.GetLength())
		}
	}
	return nil
}

func (r *Runtime) newSandbox(rec sandboxRecord, cfg *runtimeapi.PodSandboxConfig) *sandbox {
	dir := r.shimDir(rec.ID)
	return &sandbox{id: rec.ID, dir: dir, disk: r.sandboxDir(rec.ID), cfg: cfg, rec: rec, shim: shimapi.NewClient(dir)}
}

func (r *Runtime) setUpSandbox(ctx context.Context, sb *sandbox) error {
	parent := sb.cfg.GetLinux().GetCgroupParent()
	sb.rec.MadeCgroup = parent != "" && !r.cfg.SystemdCgroups && !r.layout.exists(parent)
	for _, dir := range []string{r.sandboxDir(sb.id), sb.dir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	if err := writeRecord(r.sandboxDir(sb.id), sb.rec); err != nil {
		return err
	}
	if err := r.writeSandboxFiles(sb); err != nil {
		return err
	}
	if err := r.shims.start(ctx, sb.dir, r.shimSandbox(sb)); err != nil {
		return err
	}
	result := network.Result{}
	if !sb.hostNetwork() {
		var err error
		if result, err = r.cfg.Network.Setup(ctx, r.networkPod(sb)); err != nil {
			return fmt.Errorf("failed to setup network for sandbox %q: %w", sb.id, err)
		}
	}
	return r.changeSandbox(sb, func(rec *sandboxRecord) { rec.Phase, rec.Network = phaseReady, result })
}

func (r *Runtime) shimSandbox(sb *sandbox) shimapi.Sandbox {
	ns := sb.namespaces()
	out := shimapi.Sandbox{
		ID:      sb.id,
		Network: ns.Network != runtimeapi.NamespaceMode_NODE,
		IPC:     ns.Ipc != runtimeapi.NamespaceMode_NODE,
		UTS:     ns.Network != runtimeapi.NamespaceMode_NODE,
		PID:     ns.Pid == runtimeapi.NamespaceMode_POD,
		Sysctls: sysctls(sb.cfg.GetLinux().GetSysctls(), ns),
		Cgroup:  path.Join(r.cfg.CgroupRoot, "skiff-shims"),
	}
	if out.UTS {
		out.Hostname = sb.hostname()
	}
	if u := ns.GetUsernsOptions(); mapped(u) {
		out.UIDMappings, out.GIDMappings = idMappings(u.Uids), idMappings(u.Gids)
	}
	return out
}

// sysctls are a sandbox's own and, where it has a network of its own, the two
// that let users other than root serve on any port and ping, as containerd's
// defaults do: nobody else has the ports below 1024 of such a network.
func sysctls(own map[string]string, ns *runtimeapi.NamespaceOption) map[string]string {
	out := map[string]string{}
	if ns.GetNetwork() != runtimeapi.NamespaceMode_NODE {
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		if !mapped(ns.GetUsernsOptions()) {
			out["net.ipv4.ping_group_range"] = "0 2147483647"
		}
	}
	for name, value := range own {
		delete(out, strings.ReplaceAll(name, "/", "."))
		out[name] = value
	}
	return out
}

func idMappings(in []*runtimeapi.IDMapping) []shimapi.IDMapping {
	out := make([]shimapi.IDMapping, len(in))
	for i, m := range in {
		out[i] = shimapi.IDMapping{ContainerID: m.ContainerId, HostID: m.HostId, Size: m.Length}
	}
	return out
}

// sharedMemory is where a sandbox's /dev/shm is, in the shim's folder.
const sharedMemory = "shm"

// Names of the files that the containers of a sandbox share and may write.
const (
	resolvFile   = "resolv.conf"
	hostnameFile = "hostname"
	hostsFile    = "hosts"
)

func (r *Runtime) networkPod(sb *sandbox) network.Pod {
	m := sb.cfg.GetMetadata() // none where the record was cut short
	p := network.Pod{
		ID: sb.id, Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUid(), NetNSPath: sb.nsPath("net"), Annotations: sb.cfg.Annotations,
		DNSServers: sb.cfg.DnsConfig.GetServers(), DNSSearches: sb.cfg.DnsConfig.GetSearches(), DNSOptions: sb.cfg.DnsConfig.GetOptions(),
	}
	if _, err := os.Stat(p.NetNSPath); err != nil {
		p.NetNSPath = ""
	}
	for _, pm := range sb.cfg.PortMappings {
		if pm.HostPort <= 0 || pm.HostPort > 65535 || pm.ContainerPort <= 0 || pm.ContainerPort > 65535 {
			continue
		}
		mapping := network.PortMapping{HostPort: uint16(pm.HostPort), ContainerPort: uint16(pm.ContainerPort), Protocol: network.TCP}
		switch pm.Protocol {
		case runtimeapi.Protocol_UDP:
			mapping.Protocol = network.UDP
		case runtimeapi.Protocol_SCTP:
			mapping.Protocol = network.SCTP
		}
		if ip, err := netip.ParseAddr(pm.HostIp); err == nil {
			mapping.HostIP = ip
		}
		p.PortMappings = append(p.PortMappings, mapping)
	}
	p.Bandwidth.Ingress = bandwidth(sb.cfg.Annotations["kubernetes.io/ingress-bandwidth"])
	p.Bandwidth.Egress = bandwidth(sb.cfg.Annotations["kubernetes.io/egress-bandwidth"])
	return p
}

func bandwidth(text string) uint64 {
	if text == "" {
		return 0
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Value() < 0 {
		return 0
	}
	return uint64(q.Value())
}

// UpdatePodSandboxResources implements RuntimeService. The pod's cgroup is its
// client's, which has changed it already.
func (r *Runtime) UpdatePodSandboxResources(_ context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	if _, err := r.sandbox(req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
