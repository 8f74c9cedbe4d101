package cri

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/apparmor"
	"skiff/kubelet/cri/shimapi"
	"skiff/kubelet/stopsignal"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// specBuilder turns a CRI configuration into an OCI one.
type specBuilder struct {
	runtime     *Runtime
	c           *container
	sandbox     *sandbox
	image       *v1.ConfigFile
	imageMounts map[int]string
	targetPid   int
	// privilegedPod is what the request says of the pod, which may have got a
	// privileged ephemeral container after its sandbox was made.
	privilegedPod bool

	// What the container's record keeps of the outcome.
	cgroup string
	user   *user
	stop   string
}

func (b *specBuilder) security() *runtimeapi.LinuxContainerSecurityContext {
	if sc := b.c.cfg.GetLinux().GetSecurityContext(); sc != nil {
		return sc
	}
	return &runtimeapi.LinuxContainerSecurityContext{}
}

func (b *specBuilder) root() string { return filepath.Join(b.c.dir, rootDir) }

func (b *specBuilder) build() (*specs.Spec, error) {
	cfg, sc := b.c.cfg, b.security()
	if sc.Privileged && !b.privilegedPod {
		return nil, invalid("no privileged container allowed in sandbox")
	}
	usr, acc, err := resolveUser(b.root(), b.image.Config.User, sc)
	if err != nil {
		return nil, err
	}
	b.user = usr
	args, err := b.args()
	if err != nil {
		return nil, err
	}
	process := &specs.Process{
		Terminal:        cfg.Tty,
		Args:            args,
		Env:             b.env(acc),
		Cwd:             firstOf(cfg.WorkingDir, b.image.Config.WorkingDir, "/"),
		User:            specs.User{UID: uint32(usr.UID), GID: uint32(usr.GID)},
		NoNewPrivileges: sc.NoNewPrivs && !sc.Privileged,
		Capabilities:    capabilities(sc, b.runtime.own.capabilities),
		Rlimits:         nil,
	}
	for _, g := range usr.Groups {
		process.User.AdditionalGids = append(process.User.AdditionalGids, uint32(g))
	}
	score := max(int(cfg.GetLinux().GetResources().GetOomScoreAdj()), b.runtime.own.lowestOOMScore)
	process.OOMScoreAdj = &score
	if process.ApparmorProfile, err = apparmorProfile(sc); err != nil {
		return nil, err
	}
	process.SelinuxLabel = selinuxLabel(sc)
	linux := &specs.Linux{
		Resources:  b.runtime.layout.resources(cfg.GetLinux().GetResources()),
		Namespaces: b.namespaces(),
	}
	if linux.Seccomp, err = b.runtime.seccompProfile(sc, process.Capabilities); err != nil {
		return nil, err
	}
	if !sc.Privileged {
		linux.MaskedPaths, linux.ReadonlyPaths = sc.MaskedPaths, sc.ReadonlyPaths
	}
	if u := b.sandbox.namespaces().GetUsernsOptions(); mapped(u) {
		linux.UIDMappings, linux.GIDMappings = specMappings(u.Uids), specMappings(u.Gids)
	}
	b.cgroup = b.cgroupPath()
	linux.CgroupsPath = b.cgroup
	if err := b.devices(linux); err != nil {
		return nil, err
	}
	mounts, propagation, err := b.mounts()
	if err != nil {
		return nil, err
	}
	linux.RootfsPropagation = propagation
	b.stop = b.stopSignal()
	spec := &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: b.root(), Readonly: sc.ReadonlyRootfs},
		Process:  process,
		Mounts:   mounts,
		Linux:    linux,
		Hostname: "",
	}
	return spec, injectCDI(spec, cfg, b.runtime.cfg.CDIDirs)
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// args merges the pod's command and arguments with the image's: a command
// drops the image's arguments too.
func (b *specBuilder) args() ([]string, error) {
	command, args := b.c.cfg.Command, b.c.cfg.Args
	if len(command) == 0 {
		if len(args) == 0 {
			args = b.image.Config.Cmd
		}
		command = b.image.Config.Entrypoint
	}
	all := append(append([]string{}, command...), args...)
	if len(all) == 0 || all[0] == "" {
		return nil, invalid("no command specified")
	}
	return all, nil
}

func (b *specBuilder) env(acc *account) []string {
	var out []string
	at := make(map[string]int)
	set := func(kv string) {
		key, _, _ := strings.Cut(kv, "=")
		if i, ok := at[key]; ok {
			out[i] = kv
			return
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	set("PATH=" + defaultPath)
	if h := b.sandbox.hostname(); h != "" {
		set("HOSTNAME=" + h)
	}
	if b.c.cfg.Tty {
		set("TERM=xterm")
	}
	for _, kv := range b.image.Config.Env {
		set(kv)
	}
	for _, kv := range b.c.cfg.Envs {
		set(kv.Key + "=" + string(kv.Value))
	}
	if _, ok := at["HOME"]; !ok {
		set("HOME=" + firstOf(acc.home, "/"))
	}
	return out
}

func (b *specBuilder) stopSignal() string {
	return firstOf(stopsignal.FromCRI(b.c.cfg.StopSignal), b.image.Config.StopSignal, "SIGTERM")
}

// cgroupPath is the container's cgroup: below its pod's, as the CRI client
// names it, by the driver's way of naming.
func (b *specBuilder) cgroupPath() string {
	parent := b.sandbox.cfg.GetLinux().GetCgroupParent()
	if b.runtime.cfg.SystemdCgroups {
		return firstOf(path.Base(parent), "system.slice") + ":skiff:" + b.c.id
	}
	return path.Join("/", firstOf(parent, path.Join(b.runtime.cfg.CgroupRoot, "skiff-pods")), b.c.id)
}

func (b *specBuilder) namespaces() []specs.LinuxNamespace {
	sb := b.sandbox
	pod := sb.namespaces()
	own := b.security().GetNamespaceOptions()
	if own == nil {
		own = pod
	}
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	if pod.Network != runtimeapi.NamespaceMode_NODE {
		out = append(out,
			specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: sb.nsPath("net")},
			specs.LinuxNamespace{Type: specs.UTSNamespace, Path: sb.nsPath("uts")})
	}
	if pod.Ipc != runtimeapi.NamespaceMode_NODE {
		out = append(out, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: sb.nsPath("ipc")})
	}
	switch own.Pid {
	case runtimeapi.NamespaceMode_CONTAINER:
		out = append(out, specs.LinuxNamespace{Type: specs.PIDNamespace})
	case runtimeapi.NamespaceMode_POD:
		ns := specs.LinuxNamespace{Type: specs.PIDNamespace}
		if pod.Pid == runtimeapi.NamespaceMode_POD {
			ns.Path = sb.nsPath("pid")
		}
		out = append(out, ns)
	case runtimeapi.NamespaceMode_TARGET:
		ns := specs.LinuxNamespace{Type: specs.PIDNamespace}
		if b.targetPid != 0 {
			ns.Path = fmt.Sprintf("/proc/%d/ns/pid", b.targetPid)
		}
		out = append(out, ns)
	}
	if mapped(pod.GetUsernsOptions()) {
		out = append(out, specs.LinuxNamespace{Type: specs.UserNamespace, Path: sb.nsPath("user")})
	}
	if b.runtime.layout.unified && !b.security().Privileged {
		out = append(out, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return out
}

func specMappings(in []*runtimeapi.IDMapping) []specs.LinuxIDMapping {
	out := make([]specs.LinuxIDMapping, len(in))
	for i, m := range in {
		out[i] = specs.LinuxIDMapping{ContainerID: m.ContainerId, HostID: m.HostId, Size: m.Length}
	}
	return out
}

// resources are a container's limits as the shim sets them. A machine that counts no
// huge pages has nothing to limit them with: the pod's share is held by admission then.
func (l cgroupLayout) resources(in *runtimeapi.LinuxContainerResources) *specs.LinuxResources {
	out := &specs.LinuxResources{}
	if in == nil {
		return out
	}
	cpu := specs.LinuxCPU{Cpus: in.CpusetCpus, Mems: in.CpusetMems}
	if in.CpuPeriod > 0 {
		p := uint64(in.CpuPeriod)
		cpu.Period = &p
	}
	if in.CpuQuota != 0 {
		q := in.CpuQuota
		cpu.Quota = &q
	}
	if in.CpuShares > 0 {
		s := uint64(in.CpuShares)
		cpu.Shares = &s
	}
	out.CPU = &cpu
	mem := specs.LinuxMemory{}
	if in.MemoryLimitInBytes != 0 {
		limit := in.MemoryLimitInBytes
		mem.Limit = &limit
	}
	if in.MemorySwapLimitInBytes > 0 {
		swap := in.MemorySwapLimitInBytes
		mem.Swap = &swap
	}
	out.Memory = &mem
	if l.has("hugetlb") {
		for _, h := range in.HugepageLimits {
			out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: h.PageSize, Limit: h.Limit})
		}
	}
	out.Unified = in.Unified
	return out
}

// updateConfig changes the limits of a container that has not started.
func (l cgroupLayout) updateConfig(dir string, res *runtimeapi.LinuxContainerResources) error {
	file := filepath.Join(dir, shimapi.ConfigFile)
	var spec specs.Spec
	if err := shimapi.ReadJSON(file, &spec); err != nil {
		return err
	}
	devices := spec.Linux.Resources.Devices
	spec.Linux.Resources = l.resources(res)
	spec.Linux.Resources.Devices = devices
	return shimapi.WriteJSON(file, &spec)
}

func apparmorProfile(sc *runtimeapi.LinuxContainerSecurityContext) (string, error) {
	p := sc.GetApparmor()
	if p == nil && sc.GetApparmorProfile() != "" {
		name := strings.TrimPrefix(sc.ApparmorProfile, "localhost/")
		p = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: name}
		switch sc.ApparmorProfile {
		case "runtime/default":
			p.ProfileType = runtimeapi.SecurityProfile_RuntimeDefault
		case "unconfined":
			p.ProfileType = runtimeapi.SecurityProfile_Unconfined
		}
	}
	if p == nil || sc.Privileged || p.ProfileType != runtimeapi.SecurityProfile_Localhost {
		return "", nil
	}
	if !apparmor.Enabled() {
		return "", fmt.Errorf("AppArmor profile %q is asked for, but the kernel has no AppArmor", p.LocalhostRef)
	}
	return p.LocalhostRef, nil
}

func selinuxLabel(sc *runtimeapi.LinuxContainerSecurityContext) string {
	o := sc.GetSelinuxOptions()
	if o == nil || sc.Privileged {
		return ""
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return ""
	}
	return strings.Join([]string{firstOf(o.User, "system_u"), firstOf(o.Role, "system_r"), firstOf(o.Type, "container_t"), firstOf(o.Level, "s0")}, ":")
}
