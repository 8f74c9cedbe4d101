// Package iscsi mounts disks of iSCSI targets, with the node's iscsiadm (open-iscsi).
package iscsi

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
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

const kind = "kubernetes.io/iscsi"

// Config configures a Plugin.
type Config struct {
	// Root is the kubelet's folder.
	Root    string
	Mounter mount.Interface
	Exec    exec.Interface
	Objects volume.Objects
	Host    scsi.Host
	// Appear is how long a disk may take to appear after the login; default 30 seconds.
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
		cfg.Appear = 30 * time.Second
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
func (*Plugin) Supports(r *volume.Request) bool {
	if r.PV != nil {
		return r.PV.Spec.ISCSI != nil
	}
	return r.Volume.ISCSI != nil
}

// target is a disk of a target, and how it is reached. It holds no secret.
type target struct {
	Portals []string `json:"portals"`
	IQN     string   `json:"iqn"`
	LUN     int32    `json:"lun"`
	// Interface is iscsiadm's. Where the node is to be known as Initiator it is one of its
	// own, which begins with the settings of Base.
	Interface     string `json:"interface"`
	Base          string `json:"base,omitempty"`
	Initiator     string `json:"initiator,omitempty"`
	DiscoveryCHAP bool   `json:"discoveryCHAP,omitempty"`
	SessionCHAP   bool   `json:"sessionCHAP,omitempty"`
}

// wish is what a pod's volume says.
type wish struct {
	target
	fsType       string
	readOnly     bool
	mountOptions []string
	secret       *v1.SecretReference
}

// wished reads a volume; spec is its name.
func wished(r *volume.Request) wish {
	var w wish
	spec := r.Volume.Name
	var portal, iface, initiator string
	var portals []string
	if r.PV != nil {
		s := r.PV.Spec.ISCSI
		spec = r.PV.Name
		w.fsType, w.readOnly, w.mountOptions, w.secret = s.FSType, s.ReadOnly, r.PV.Spec.MountOptions, s.SecretRef
		if w.secret != nil && w.secret.Namespace == "" && r.PVC != nil {
			w.secret = &v1.SecretReference{Namespace: r.PVC.Namespace, Name: w.secret.Name}
		}
		w.IQN, w.LUN, w.DiscoveryCHAP, w.SessionCHAP = s.IQN, s.Lun, s.DiscoveryCHAPAuth, s.SessionCHAPAuth
		portal, portals, iface, initiator = s.TargetPortal, s.Portals, s.ISCSIInterface, ptr.Deref(s.InitiatorName, "")
	} else {
		s := r.Volume.ISCSI
		w.fsType, w.readOnly = s.FSType, s.ReadOnly
		if s.SecretRef != nil {
			w.secret = &v1.SecretReference{Namespace: r.Pod.Namespace, Name: s.SecretRef.Name}
		}
		w.IQN, w.LUN, w.DiscoveryCHAP, w.SessionCHAP = s.IQN, s.Lun, s.DiscoveryCHAPAuth, s.SessionCHAPAuth
		portal, portals, iface, initiator = s.TargetPortal, s.Portals, s.ISCSIInterface, ptr.Deref(s.InitiatorName, "")
	}
	seen := map[string]bool{}
	for _, p := range append([]string{portal}, portals...) {
		if p = withPort(p); !seen[p] {
			seen[p] = true
			w.Portals = append(w.Portals, p)
		}
	}
	w.Interface = iface
	if w.Interface == "" {
		w.Interface = "default"
	}
	if initiator != "" {
		// An interface of its own, so that others of the node keep their name.
		w.Initiator, w.Base, w.Interface = initiator, w.Interface, w.Portals[0]+":"+spec
	}
	return w
}

// withPort adds the port of iSCSI where a portal has none.
func withPort(portal string) string {
	if strings.HasSuffix(portal, "]") || strings.Count(portal, ":") == 0 {
		return portal + ":3260"
	}
	return portal
}

// key names a disk; the same one behind other portals is another.
func (t *target) key() string {
	return "iface-" + t.Interface + ":" + t.Portals[0] + "-" + t.IQN + "-lun-" + strconv.Itoa(int(t.LUN))
}

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(ctx context.Context, r *volume.Request) (*volume.Mounted, error) {
	w := wished(r)
	secrets := map[string]string{}
	if w.DiscoveryCHAP || w.SessionCHAP {
		if w.secret == nil {
			return nil, fmt.Errorf("iscsi: CHAP is asked for without a secret: set secretRef, to one with the keys %s and %s", sessionUser, sessionPassword)
		}
		s, err := p.cfg.Objects.Secret(ctx, w.secret.Namespace, w.secret.Name)
		if err != nil {
			return nil, fmt.Errorf("couldn't get secret %v/%v error: %w", w.secret.Namespace, w.secret.Name, err)
		}
		for k, v := range s.Data {
			secrets[k] = string(v)
		}
	}
	return p.disks.SetUp(ctx, r, disk.Disk[target]{
		Key: w.key(), About: w.target, FSType: w.fsType, MountOptions: w.mountOptions, ReadOnly: w.readOnly,
	}, secrets)
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
