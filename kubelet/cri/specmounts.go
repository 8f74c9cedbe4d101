package cri

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// mounts lists what is mounted in the container, parents before what is below
// them, and how mounts spread between it and the host.
func (b *specBuilder) mounts() ([]specs.Mount, string, error) {
	sc := b.security()
	given := make(map[string]bool)
	for _, m := range b.c.cfg.Mounts {
		given[path.Clean(m.ContainerPath)] = true
	}
	var out []specs.Mount
	add := func(m specs.Mount) {
		if !given[path.Clean(m.Destination)] {
			out = append(out, m)
		}
	}
	sys := "ro"
	if sc.Privileged {
		sys = "rw"
	}
	add(specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}})
	add(specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}})
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}
	add(specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts})
	// The queues are those of the IPC namespace that the container joins; a node
	// need not have them mounted.
	add(specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}})
	if b.sandbox.namespaces().Ipc == runtimeapi.NamespaceMode_NODE {
		add(bind("/dev/shm", "/dev/shm", "rbind", "nosuid", "noexec", "nodev"))
	} else {
		add(bind(filepath.Join(b.sandbox.dir, sharedMemory), "/dev/shm", "rbind", "rw"))
	}
	if b.sandbox.hostNetwork() && mapped(b.sandbox.namespaces().GetUsernsOptions()) {
		// A user namespace may not mount sysfs of a network that is not its own.
		add(bind("/sys", "/sys", "rbind", "nosuid", "noexec", "nodev", sys))
	} else {
		add(specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}})
	}
	add(specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", sys}})

	files := []struct{ name, at string }{{hostsFile, "/etc/hosts"}, {resolvFile, "/etc/resolv.conf"}, {hostnameFile, "/etc/hostname"}}
	for _, f := range files {
		m := bind(b.sandbox.sharedFile(f.name), f.at, "rbind", "rprivate")
		if sc.ReadonlyRootfs {
			m.Options = append(m.Options, "ro")
		} else {
			m.Options = append(m.Options, "rw")
		}
		add(m)
	}
	propagation := ""
	user := make([]specs.Mount, 0, len(b.c.cfg.Mounts))
	for i, m := range b.c.cfg.Mounts {
		sm, p, err := b.mount(i, m)
		if err != nil {
			return nil, "", err
		}
		if p == "rshared" || propagation == "" {
			propagation = p
		}
		user = append(user, sm)
	}
	volumes, err := b.imageVolumes(given)
	if err != nil {
		return nil, "", err
	}
	user = append(user, volumes...)
	slices.SortStableFunc(user, func(x, y specs.Mount) int {
		return strings.Count(path.Clean(x.Destination), "/") - strings.Count(path.Clean(y.Destination), "/")
	})
	return append(out, user...), propagation, nil
}

func bind(source, target string, options ...string) specs.Mount {
	return specs.Mount{Source: source, Destination: target, Type: "bind", Options: options}
}

// mount turns one mount of the pod into the OCI's; it also tells the
// propagation that the container's root must have for it.
func (b *specBuilder) mount(i int, m *runtimeapi.Mount) (specs.Mount, string, error) {
	source := m.HostPath
	if host, ok := b.imageMounts[i]; ok {
		source = host
	}
	if source == "" {
		return specs.Mount{}, "", invalid("mount %s has no host path", m.ContainerPath)
	}
	if m.RecursiveReadOnly && (!m.Readonly || m.Propagation != runtimeapi.MountPropagation_PROPAGATION_PRIVATE) {
		return specs.Mount{}, "", invalid("recursive_read_only of mount %s needs readonly and private propagation", m.ContainerPath)
	}
	if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(source, 0o755); err != nil {
			return specs.Mount{}, "", fmt.Errorf("failed to mkdir %q: %w", source, err)
		}
	} else if err != nil {
		return specs.Mount{}, "", fmt.Errorf("failed to stat %q: %w", source, err)
	}
	// A link as source is the client's own choice; it is followed on the host.
	real, err := filepath.EvalSymlinks(source)
	if err != nil {
		return specs.Mount{}, "", fmt.Errorf("failed to resolve symlink %q: %w", source, err)
	}
	target := m.ContainerPath
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	options, root := []string{"rbind"}, ""
	switch m.Propagation {
	case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		if err := propagates(real, "shared:"); err != nil {
			return specs.Mount{}, "", err
		}
		options, root = append(options, "rshared"), "rshared"
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		if err := propagates(real, "shared:", "master:"); err != nil {
			return specs.Mount{}, "", err
		}
		options, root = append(options, "rslave"), "rslave"
	default:
		options = append(options, "rprivate")
	}
	switch {
	case m.RecursiveReadOnly:
		options = append(options, "rro")
	case m.Readonly:
		options = append(options, "ro")
	default:
		options = append(options, "rw")
	}
	out := bind(real, target, append(options, m.MountOptions...)...)
	if len(m.UidMappings) > 0 && len(m.GidMappings) > 0 {
		out.UIDMappings, out.GIDMappings = specMappings(m.UidMappings), specMappings(m.GidMappings)
		out.Options = append(out.Options, "ridmap")
	}
	return out, root, nil
}

// propagates checks that the mount a path is on passes mounts on.
func propagates(p string, kinds ...string) error {
	point, optional, err := mountOf(p)
	if err != nil {
		return err
	}
	for _, k := range kinds {
		if strings.Contains(optional, k) {
			return nil
		}
	}
	if len(kinds) == 1 {
		return fmt.Errorf("path %q is mounted on %q but it is not a shared mount", p, point)
	}
	return fmt.Errorf("path %q is mounted on %q but it is not a shared or slave mount", p, point)
}

// mountOf finds the mount that a path is on and its propagation fields.
func mountOf(p string) (point, optional string, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		end := slices.Index(fields, "-")
		if end < 6 {
			continue
		}
		at := unescapeMount(fields[4])
		// Later lines lie over earlier ones.
		if len(at) >= len(point) && (p == at || at == "/" || strings.HasPrefix(p, at+"/")) {
			point, optional = at, strings.Join(fields[6:end], " ")
		}
	}
	return point, optional, nil
}

// devices gives the container its devices, and the cgroup the rules for them.
func (b *specBuilder) devices(linux *specs.Linux) error {
	if b.security().Privileged {
		linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		if mapped(b.sandbox.namespaces().GetUsernsOptions()) {
			return nil
		}
		return addDevices(linux, "/dev", "/dev", "", true)
	}
	linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range b.c.cfg.Devices {
		host, err := filepath.EvalSymlinks(d.HostPath)
		if err != nil {
			return fmt.Errorf("device %s: %w", d.HostPath, err)
		}
		if err := addDevices(linux, host, firstOf(d.ContainerPath, d.HostPath), d.Permissions, false); err != nil {
			return err
		}
	}
	return nil
}

// addDevices adds the device at host, or all devices below it.
func addDevices(linux *specs.Linux, host, at, access string, tolerant bool) error {
	st, err := os.Lstat(host)
	if err != nil {
		if tolerant {
			return nil
		}
		return fmt.Errorf("device %s: %w", host, err)
	}
	if st.IsDir() {
		entries, err := os.ReadDir(host)
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch e.Name() {
			case "pts", "shm", "fd", "mqueue", "console", ".lxc", ".udev":
				continue
			}
			if e.Type()&(fs.ModeDir|fs.ModeDevice) == 0 {
				continue
			}
			if err := addDevices(linux, filepath.Join(host, e.Name()), path.Join(at, e.Name()), access, tolerant); err != nil {
				return err
			}
		}
		return nil
	}
	var sys unix.Stat_t
	if err := unix.Lstat(host, &sys); err != nil {
		return fmt.Errorf("device %s: %w", host, err)
	}
	kind := ""
	switch sys.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = "c"
	case unix.S_IFBLK:
		kind = "b"
	default:
		if tolerant {
			return nil
		}
		return fmt.Errorf("device %s: not a device node", host)
	}
	major, minor := int64(unix.Major(sys.Rdev)), int64(unix.Minor(sys.Rdev))
	mode := fs.FileMode(sys.Mode & 0o777)
	uid, gid := sys.Uid, sys.Gid
	linux.Devices = append(linux.Devices, specs.LinuxDevice{Path: at, Type: kind, Major: major, Minor: minor, FileMode: &mode, UID: &uid, GID: &gid})
	if access != "" || !tolerant {
		linux.Resources.Devices = append(linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: kind, Major: &major, Minor: &minor, Access: firstOf(access, "rwm"),
		})
	}
	return nil
}
