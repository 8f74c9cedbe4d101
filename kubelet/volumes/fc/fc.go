// Package fc mounts disks of Fibre Channel storage, which the node's adapters have
// found.
package fc

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/mount-utils"
	"k8s.io/utils/exec"
	"k8s.io/utils/ptr"

	"skiff/kubelet/volumes/disk"
	"skiff/kubelet/volumes/scsi"
	"skiff/kubelet/volumes/volume"
)

const kind = "kubernetes.io/fc"

// Config configures a Plugin.
type Config struct {
	// Root is the kubelet's folder.
	Root    string
	Mounter mount.Interface
	Exec    exec.Interface
	Host    scsi.Host
	// Appear is how long a disk may take to appear after the adapters have looked for
	// it; default 10 seconds.
	Appear time.Duration
}

// Plugin implements volume.Plugin.
type Plugin struct {
	cfg   Config
	disks disk.Disks[target]
}

// New makes the plugin.
func New(cfg Config) *Plugin {
	if cfg.Appear == 0 {
		cfg.Appear = 10 * time.Second
	}
	p := &Plugin{cfg: cfg}
	p.disks = disk.Disks[target]{
		Root: filepath.Join(cfg.Root, "plugins", kind), Pods: filepath.Join(cfg.Root, "pods"), Mounter: cfg.Mounter, Exec: cfg.Exec,
		Attach: p.attach, Detach: p.detach,
	}
	return p
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return kind }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return source(r) != nil }

func source(r *volume.Request) *v1.FCVolumeSource {
	if r.PV != nil {
		return r.PV.Spec.FC
	}
	return r.Volume.FC
}

// target is a disk by the names of its ports and its number there, or by its own names.
type target struct {
	WWNs  []string `json:"wwns,omitempty"`
	LUN   int32    `json:"lun,omitempty"`
	WWIDs []string `json:"wwids,omitempty"`
}

// key names a disk.
func (t *target) key() string {
	if len(t.WWNs) > 0 {
		return fmt.Sprintf("%s-lun-%d", t.WWNs[0], t.LUN)
	}
	return t.WWIDs[0]
}

// patterns are the names that udev may have for the disk, below /dev/disk.
func (t *target) patterns() []string {
	var out []string
	for _, wwn := range t.WWNs {
		// What is before it is the adapter's place.
		out = append(out, fmt.Sprintf("by-path/*-fc-0x%s-lun-%d", strings.TrimPrefix(strings.ToLower(wwn), "0x"), t.LUN))
	}
	for _, wwid := range t.WWIDs {
		out = append(out, "by-id/scsi-"+strings.ReplaceAll(wwid, " ", "_"))
	}
	return out
}

var errNone = errors.New("fc: no WWNs or WWIDs found")

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(ctx context.Context, r *volume.Request) (*volume.Mounted, error) {
	s := source(r)
	t := target{WWNs: s.TargetWWNs, LUN: ptr.Deref(s.Lun, 0), WWIDs: s.WWIDs}
	if len(t.WWNs) == 0 && len(t.WWIDs) == 0 || len(t.WWNs) > 0 && s.Lun == nil {
		return nil, fmt.Errorf("%w: give wwids, or targetWWNs and lun", errNone)
	}
	d := disk.Disk[target]{Key: t.key(), About: t, FSType: s.FSType, ReadOnly: s.ReadOnly}
	if r.PV != nil {
		d.MountOptions = r.PV.Spec.MountOptions
	}
	return p.disks.SetUp(ctx, r, d, nil)
}

// TearDown implements volume.Plugin.
func (p *Plugin) TearDown(ctx context.Context, dir string) error { return p.disks.TearDown(ctx, dir) }

// Sweep implements volume.Sweeper.
func (p *Plugin) Sweep(ctx context.Context) error { return p.disks.Sweep(ctx) }

// Measure implements volume.Measurer.
func (*Plugin) Measure(_ context.Context, r *volume.Request) (*volume.Usage, error) {
	if r.Block() {
		return nil, nil
	}
	return volume.Statfs(r.Dir)
}

// attach finds the disk's device, after the adapters have looked for it anew where it
// is not known yet.
func (p *Plugin) attach(ctx context.Context, t *target, _ map[string]string) (string, error) {
	if device := p.find(t); device != "" {
		return p.cfg.Host.Multipath(device), nil
	}
	hosts, err := p.cfg.Host.Hosts()
	if err != nil {
		return "", err
	}
	refused := 0
	for _, h := range hosts {
		if p.cfg.Host.Rescan(h, "-", "-", "-") != nil {
			refused++ // it has no disks then
		}
	}
	if device := scsi.Wait(ctx, p.cfg.Appear, 200*time.Millisecond, func() string { return p.find(t) }); device != "" {
		return p.cfg.Host.Multipath(device), nil
	}
	adapters, err := filepath.Glob(p.cfg.Host.Path("sys/class/fc_host", "*"))
	if err == nil && len(adapters) == 0 {
		return "", errors.New("no fc disk found: the node has no Fibre Channel adapter (/sys/class/fc_host is empty), or not its kernel module")
	}
	return "", fmt.Errorf("no fc disk found: of %d adapters %d were asked, and udev has none of %s in /dev/disk", len(hosts), len(hosts)-refused, strings.Join(t.patterns(), ", "))
}

// find is the name of the disk's device, "" for none.
func (p *Plugin) find(t *target) string {
	if all := p.ways(t); len(all) > 0 {
		return all[0]
	}
	return ""
}

// ways are all names that udev has for the disk.
func (p *Plugin) ways(t *target) []string {
	var out []string
	for _, pattern := range t.patterns() {
		found, _ := filepath.Glob(p.cfg.Host.Path("dev/disk", pattern)) // a bad pattern matches nothing
		out = append(out, found...)
	}
	return out
}

// detach takes the disk from the kernel, by all of its ways.
func (p *Plugin) detach(ctx context.Context, t *target, _ []target) error {
	var gone []string
	for _, way := range p.ways(t) {
		if d := p.cfg.Host.Multipath(way); !slices.Contains(gone, d) {
			gone = append(gone, d)
		}
	}
	var errs []error
	for _, d := range gone {
		errs = append(errs, p.cfg.Host.Remove(ctx, p.cfg.Exec, d))
	}
	return errors.Join(errs...)
}
