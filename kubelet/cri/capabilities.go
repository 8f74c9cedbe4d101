package cri

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// allCapabilities are the kernel's, in the order of their numbers.
var allCapabilities = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// defaultCapabilities are what a container has that asks for nothing.
var defaultCapabilities = [...]string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
	"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

// capabilities computes a container's: the defaults, or all that are held when it
// is privileged, with the pod's additions and removals.
func capabilities(sc *runtimeapi.LinuxContainerSecurityContext, held []string) *specs.LinuxCapabilities {
	have := slices.Clone(defaultCapabilities[:])
	if sc.Privileged {
		have = slices.Clone(held)
	}
	add, drop := capNames(sc.GetCapabilities().GetAddCapabilities()), capNames(sc.GetCapabilities().GetDropCapabilities())
	if !sc.Privileged {
		if slices.Contains(add, "ALL") {
			have = slices.Clone(held)
		}
		if slices.Contains(drop, "ALL") {
			have = nil
		}
	}
	for _, c := range add {
		if c != "ALL" && !slices.Contains(have, c) {
			have = append(have, c)
		}
	}
	have = slices.DeleteFunc(have, func(c string) bool { return slices.Contains(drop, c) })
	full := make([]string, len(have))
	for i, c := range have {
		full[i] = "CAP_" + c
	}
	out := &specs.LinuxCapabilities{Bounding: full, Effective: full, Permitted: full}
	for _, c := range capNames(sc.GetCapabilities().GetAddAmbientCapabilities()) {
		if slices.Contains(have, c) {
			out.Ambient = append(out.Ambient, "CAP_"+c)
			out.Inheritable = append(out.Inheritable, "CAP_"+c)
		}
	}
	return out
}

func capNames(in []string) []string {
	out := make([]string, len(in))
	for i, c := range in {
		out[i] = strings.TrimPrefix(strings.ToUpper(c), "CAP_")
	}
	return out
}
