package iscsi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/exec"

	"skiff/kubelet/volumes/scsi"
)

// attach logs in to the target and returns the disk's device.
func (p *Plugin) attach(ctx context.Context, t *target, secret map[string]string) (string, error) {
	base := t.Interface
	if t.Initiator != "" {
		base = t.Base
	}
	shown, err := p.output(ctx, "-m", "iface", "-I", base, "-o", "show")
	if err != nil {
		return "", fmt.Errorf("iscsi: could not read iface %s error: %w", base, err)
	}
	if t.Initiator != "" {
		if err := p.run(ctx, t.newInterface(settings(shown))); err != nil {
			return "", fmt.Errorf("iscsi: failed to clone iface %s: %w", base, err)
		}
	}
	var devices []string
	var last error
	for _, portal := range t.Portals {
		device, err := p.attachPortal(ctx, t, portal, secret)
		if err != nil {
			last = err
			continue
		}
		devices = append(devices, device)
	}
	if len(devices) == 0 {
		return "", fmt.Errorf("failed to get any path for iscsi disk, last err seen:\n%w", last)
	}
	return p.multipath(ctx, devices), nil
}

// multipath is the device over several ways to a disk. multipathd makes it, where it
// runs; it is waited for a while, and one of the ways taken where it does not.
func (p *Plugin) multipath(ctx context.Context, devices []string) string {
	over := func() string {
		if d := p.cfg.Host.Multipath(devices[0]); d != devices[0] {
			return d
		}
		return ""
	}
	if len(devices) == 1 {
		if d := over(); d != "" {
			return d
		}
		return devices[0]
	}
	if d := scsi.Wait(ctx, p.cfg.Appear/3, every, over); d != "" {
		return d
	}
	return devices[0]
}

const every = 200 * time.Millisecond

// attachPortal has the disk appear by one portal.
func (p *Plugin) attachPortal(ctx context.Context, t *target, portal string, secret map[string]string) (string, error) {
	s := p.session(t, portal)
	if s == nil {
		if err := p.run(ctx, t.discover(portal, secret)); err != nil {
			// What is left of it does no harm, and goes with the disk.
			_ = p.run(ctx, []command{t.forgetDiscovery(portal)})
			return "", fmt.Errorf("iscsi: failed to sendtargets to portal %s %w", portal, err)
		}
		if err := p.run(ctx, t.login(portal, secret)); err != nil {
			_ = p.run(ctx, []command{{args: t.node(portal, "-o", "delete")}})
			return "", fmt.Errorf("iscsi: failed to attach disk: Error: %w", err)
		}
		if s = p.session(t, portal); s == nil {
			return "", fmt.Errorf("iscsi: no session with %s at %s after the login", t.IQN, portal)
		}
	}
	lun := strconv.Itoa(int(t.LUN))
	if err := p.cfg.Host.Rescan(s.host, "0", "0", lun); err != nil {
		return "", fmt.Errorf("iscsi: look for LUN %s: %w", lun, err)
	}
	device := scsi.Wait(ctx, p.cfg.Appear, every, func() string { return p.device(t, portal, s) })
	if device == "" {
		return "", fmt.Errorf("could not attach disk: Timeout after %s: %s does not appear; does the target have LUN %s for this initiator?", p.cfg.Appear, t.byPath(portal), lun)
	}
	return device, nil
}

// device is the disk's, "" while it has not appeared: udev's name, which stays the
// same, or the kernel's where there is no udev.
func (p *Plugin) device(t *target, portal string, s *session) string {
	dir := p.cfg.Host.Path("dev/disk/by-path")
	if path := filepath.Join(dir, t.byPath(portal)); exists(path) {
		return path
	}
	for _, path := range glob(filepath.Join(dir, "*-"+t.byPath(portal))) {
		return path
	}
	if exists(dir) {
		return ""
	}
	if name := s.disk(t.LUN); name != "" {
		return p.cfg.Host.Path("dev", name)
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// glob has no pattern that is not one.
func glob(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	return found
}

// session is an open session with a target.
type session struct {
	// dir is its folder in /sys, and host its adapter.
	dir, host string
}

// disk is the name of a unit's disk; "" for none.
func (s *session) disk(lun int32) string {
	for _, path := range glob(filepath.Join(s.dir, "target*", "*:"+strconv.Itoa(int(lun)), "block", "*")) {
		return filepath.Base(path)
	}
	return ""
}

// session finds the session by a portal, nil for none.
func (p *Plugin) session(t *target, portal string) *session {
	class := p.cfg.Host.Path("sys/class")
	for _, dir := range glob(filepath.Join(class, "iscsi_session", "session*")) {
		if read(dir, "targetname") != t.IQN || read(dir, "ifacename") != t.Interface {
			continue
		}
		id := strings.TrimPrefix(filepath.Base(dir), "session")
		by := slices.ContainsFunc(glob(filepath.Join(class, "iscsi_connection", "connection"+id+":*")), func(c string) bool {
			return read(c, "persistent_address")+":"+read(c, "persistent_port") == strings.NewReplacer("[", "", "]", "").Replace(portal)
		})
		real, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if !by || err != nil {
			continue
		}
		return &session{dir: real, host: filepath.Base(filepath.Dir(real))}
	}
	return nil
}

func read(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// detach takes the disk from the kernel, and closes the sessions that no other needs.
func (p *Plugin) detach(ctx context.Context, t *target, others []target) error {
	var gone []string
	for _, portal := range t.Portals {
		s := p.session(t, portal)
		if s == nil {
			continue
		}
		if name := s.disk(t.LUN); name != "" {
			if d := p.cfg.Host.Multipath(p.cfg.Host.Path("dev", name)); !slices.Contains(gone, d) {
				gone = append(gone, d)
			}
		}
	}
	for _, d := range gone {
		if err := p.cfg.Host.Remove(ctx, p.cfg.Exec, d); err != nil {
			return err
		}
	}
	err := p.run(ctx, t.logout(others))
	if errors.Is(err, exec.ErrExecutableNotFound) && len(gone) == 0 {
		return nil // nothing was ever begun
	}
	return err
}

func (p *Plugin) run(ctx context.Context, commands []command) error {
	for _, c := range commands {
		_, err := p.output(ctx, c.args...)
		if failed := exec.ExitError(nil); errors.As(err, &failed) && (slices.Contains(c.fine, failed.ExitStatus()) || slices.Contains(c.fine, anyCode)) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// output runs iscsiadm. Its arguments may hold a password, so that errors leave them out.
func (p *Plugin) output(ctx context.Context, args ...string) (string, error) {
	out, err := p.cfg.Exec.CommandContext(ctx, "iscsiadm", args...).CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrExecutableNotFound):
		return "", fmt.Errorf("%w: iSCSI volumes need iscsiadm on the node (package open-iscsi) and its service iscsid", err)
	case err != nil:
		return "", fmt.Errorf("output: %s, err %w", strings.TrimSpace(string(out)), err)
	}
	return string(out), nil
}
