package containers

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maskedPaths and readonlyPaths are what a container may not see or write
// with the default kind of /proc.
func maskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

func groupsPolicy(psc *v1.PodSecurityContext) runtimeapi.SupplementalGroupsPolicy {
	if psc.SupplementalGroupsPolicy != nil && *psc.SupplementalGroupsPolicy == v1.SupplementalGroupsPolicyStrict {
		return runtimeapi.SupplementalGroupsPolicy_Strict
	}
	return runtimeapi.SupplementalGroupsPolicy_Merge
}

func selinux(o *v1.SELinuxOptions) *runtimeapi.SELinuxOption {
	if o == nil {
		return nil
	}
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

// seccomp translates a profile. One that is not known is refused: to run without
// a filter must be asked for in so many words.
func (m *Manager) seccomp(p *v1.SeccompProfile) (*runtimeapi.SecurityProfile, error) {
	switch p.Type {
	case v1.SeccompProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	case v1.SeccompProfileTypeUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	case v1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile == nil || *p.LocalhostProfile == "" {
			return nil, errors.New("localhostProfile must be set if seccompProfile type is Localhost")
		}
		return &runtimeapi.SecurityProfile{
			ProfileType:  runtimeapi.SecurityProfile_Localhost,
			LocalhostRef: filepath.Join(m.cfg.SeccompDir, filepath.Clean("/"+*p.LocalhostProfile)),
		}, nil
	}
	return nil, fmt.Errorf("seccompProfile type %q is unknown", p.Type)
}

// apparmor is nil where the pod names no profile: the runtime has a default, and
// some refuse to hear of profiles on a kernel without AppArmor.
func apparmor(p *v1.AppArmorProfile) *runtimeapi.SecurityProfile {
	switch {
	case p == nil:
		return nil
	case p.Type == v1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	case p.Type == v1.AppArmorProfileTypeLocalhost && p.LocalhostProfile != nil:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: *p.LocalhostProfile}
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
}

// security translates the effective security context of a container.
func (m *Manager) security(pod *v1.Pod, c *v1.Container, target string, image *runtimeapi.Image) (*runtimeapi.LinuxContainerSecurityContext, error) {
	users, err := m.cfg.Node.UserNamespace(pod)
	if err != nil {
		return nil, err
	}
	out := &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: namespaces(pod, c, target, users)}
	psc, sc := pod.Spec.SecurityContext, c.SecurityContext
	if psc == nil {
		psc = &v1.PodSecurityContext{}
	}
	if sc == nil {
		sc = &v1.SecurityContext{}
	}
	user, group := first(sc.RunAsUser, psc.RunAsUser), first(sc.RunAsGroup, psc.RunAsGroup)
	if err := verifyNonRoot(pod, c, user, first(sc.RunAsNonRoot, psc.RunAsNonRoot), image); err != nil {
		return nil, err
	}
	switch {
	case user != nil:
		out.RunAsUser = &runtimeapi.Int64Value{Value: *user}
	case image.GetUid() == nil && image.GetUsername() != "":
		out.RunAsUsername = image.GetUsername()
	default:
		// An image that names no user is root's.
		out.RunAsUser = &runtimeapi.Int64Value{Value: image.GetUid().GetValue()}
	}
	if group != nil {
		out.RunAsGroup = &runtimeapi.Int64Value{Value: *group}
	}
	if psc.FSGroup != nil {
		out.SupplementalGroups = append(out.SupplementalGroups, *psc.FSGroup)
	}
	out.SupplementalGroups = append(out.SupplementalGroups, m.cfg.Node.SupplementalGroups(pod)...)
	out.SupplementalGroups = append(out.SupplementalGroups, psc.SupplementalGroups...)
	out.SupplementalGroupsPolicy = groupsPolicy(psc)
	out.SelinuxOptions = selinux(psc.SELinuxOptions)
	if sc.SELinuxOptions != nil {
		out.SelinuxOptions = selinux(sc.SELinuxOptions)
	}
	out.Privileged = sc.Privileged != nil && *sc.Privileged
	out.ReadonlyRootfs = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
	out.NoNewPrivs = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
	if sc.Capabilities != nil {
		out.Capabilities = &runtimeapi.Capability{}
		for _, a := range sc.Capabilities.Add {
			out.Capabilities.AddCapabilities = append(out.Capabilities.AddCapabilities, string(a))
		}
		for _, d := range sc.Capabilities.Drop {
			out.Capabilities.DropCapabilities = append(out.Capabilities.DropCapabilities, string(d))
		}
	}
	if sc.ProcMount == nil || *sc.ProcMount != v1.UnmaskedProcMount {
		out.MaskedPaths, out.ReadonlyPaths = maskedPaths(), readonlyPaths()
	}
	if out.Seccomp, err = m.effectiveSeccomp(psc, sc); err != nil {
		return nil, err
	}
	profile := psc.AppArmorProfile
	if sc.AppArmorProfile != nil {
		profile = sc.AppArmorProfile
	}
	out.Apparmor = apparmor(profile)
	if out.Privileged {
		out.MaskedPaths, out.ReadonlyPaths = nil, nil
		out.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	}
	return out, nil
}

func (m *Manager) effectiveSeccomp(psc *v1.PodSecurityContext, sc *v1.SecurityContext) (*runtimeapi.SecurityProfile, error) {
	switch {
	case sc.SeccompProfile != nil:
		return m.seccomp(sc.SeccompProfile)
	case psc.SeccompProfile != nil:
		return m.seccomp(psc.SeccompProfile)
	case m.cfg.SeccompDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
}

func first[T any](values ...*T) *T {
	for _, v := range values {
		if v != nil {
			return v
		}
	}
	return nil
}

// verifyNonRoot refuses a container that must not run as root and would.
func verifyNonRoot(pod *v1.Pod, c *v1.Container, user *int64, nonRoot *bool, image *runtimeapi.Image) error {
	if nonRoot == nil || !*nonRoot {
		return nil
	}
	what := fmt.Sprintf("(pod: %q, container: %s)", Full(pod), c.Name)
	switch {
	case user != nil && *user == 0:
		return fmt.Errorf("container's runAsUser breaks non-root policy %s", what)
	case user != nil:
		return nil
	case image.GetUid().GetValue() == 0 && image.GetUsername() == "":
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", what)
	case image.GetUid() == nil:
		if n, err := strconv.ParseInt(image.GetUsername(), 10, 64); err == nil && n > 0 {
			return nil
		}
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", image.GetUsername(), what)
	}
	return nil
}
