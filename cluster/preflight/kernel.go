package preflight

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// controllers are what containers need of the cgroups.
var controllers = []string{"cpu", "cpuset", "devices", "freezer", "memory", "pids"}

// Cgroups wants the controllers that containers need, in either version.
func Cgroups() Check {
	return Check{Name: "SystemVerification-cgroups", Run: func(context.Context) (warnings, errs []error) {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return fails("read the mounts: %w", err)
		}
		unified := ""
		var st unix.Statfs_t
		if err := unix.Statfs("/sys/fs/cgroup", &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			b, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
			if err != nil {
				return fails("read the cgroup controllers: %w", err)
			}
			unified = string(b)
		}
		return nil, missingControllers(string(mounts), unified)
	}}
}

// missingControllers tells what is missing from what cgroup v2 offers, or, where
// that is empty, from the mounts (mountinfo), which name those of cgroup v1.
func missingControllers(mounts, unified string) []error {
	have := make(map[string]bool)
	switch {
	case unified != "":
		for name := range strings.FieldsSeq(unified) {
			have[name] = true
		}
		// Devices are filtered by BPF there, and freezing is part of the core.
		have["devices"], have["freezer"] = true, true
	case !strings.Contains(mounts, " - cgroup "):
		return []error{fmt.Errorf("no cgroup file system is mounted: mount them below /sys/fs/cgroup; " +
			"a shell of `ip netns exec` has them hidden, one of `nsenter --net=/run/netns/NAME` has not")}
	default:
		for line := range strings.Lines(mounts) {
			if _, super, ok := strings.Cut(strings.TrimSpace(line), " - cgroup "); ok {
				for name := range strings.SplitSeq(super[strings.LastIndexByte(super, ' ')+1:], ",") {
					have[name] = true
				}
			}
		}
	}
	var errs []error
	for _, name := range controllers {
		if !have[name] {
			errs = append(errs, fmt.Errorf("the cgroup controller %q is not available: mount it below /sys/fs/cgroup, or enable it in the kernel (CONFIG_CGROUP_…) or on its command line", name))
		}
	}
	return errs
}

// Namespaces wants the kinds of namespaces that pods are made of.
func Namespaces() Check {
	return Check{Name: "SystemVerification-namespaces", Run: func(context.Context) (warnings, errs []error) {
		for _, each := range []struct{ file, option string }{
			{"net", "CONFIG_NET_NS"}, {"pid", "CONFIG_PID_NS"}, {"uts", "CONFIG_UTS_NS"}, {"ipc", "CONFIG_IPC_NS"}, {"mnt", "CONFIG_NAMESPACES"},
		} {
			if _, err := os.Stat("/proc/self/ns/" + each.file); err != nil {
				errs = append(errs, fmt.Errorf("the kernel has no namespaces of kind %s: use one that is built with %s", each.file, each.option))
			}
		}
		return nil, errs
	}}
}

// Netfilter wants that iptables works with this kernel.
func Netfilter() Check {
	return Check{Name: "SystemVerification-netfilter", Run: func(ctx context.Context) (warnings, errs []error) {
		path, err := exec.LookPath("iptables")
		if err != nil {
			return nil, nil // another check says so
		}
		if out, err := exec.CommandContext(ctx, path, "--wait", "5", "--table", "nat", "--list-rules", "PREROUTING").CombinedOutput(); err != nil {
			return fails("iptables does not work with this kernel: load the modules ip_tables and iptable_nat, or nf_tables and nft_chain_nat: %s", bytes.TrimSpace(out))
		}
		return nil, nil
	}}
}

// WireGuard wants that the kernel has it, for the pod network of that name.
func WireGuard() Check {
	return Check{Name: "SystemVerification-wireguard", Run: func(ctx context.Context) (warnings, errs []error) {
		const family = "wireguard"
		if _, err := netlink.GenlFamilyGet(family); err == nil {
			return nil, nil
		}
		// Where it is a module nobody has needed yet; where there is none the second
		// look tells.
		_ = exec.CommandContext(ctx, "modprobe", family).Run()
		if _, err := netlink.GenlFamilyGet(family); err != nil {
			return fails("networking.podBackend is wireguard, and this kernel has no WireGuard (%w): "+
				"load the module wireguard, use a kernel that is built with CONFIG_WIREGUARD, or set podBackend to vxlan or host-gw", err)
		}
		return nil, nil
	}}
}

// Filesystem wants that the kernel knows a file system.
func Filesystem(name, module string) Check {
	return Check{Name: "SystemVerification-" + name, Run: func(context.Context) (warnings, errs []error) {
		data, err := os.ReadFile("/proc/filesystems")
		if err != nil {
			return fails("read /proc/filesystems: %w", err)
		}
		for line := range bytes.Lines(data) {
			if f := bytes.Fields(line); len(f) > 0 && string(f[len(f)-1]) == name {
				return nil, nil
			}
		}
		return []error{fmt.Errorf("the kernel does not know the file system %s: load the module %s; without it image layers are copied, which is slow and takes more space", name, module)}, nil
	}}
}
