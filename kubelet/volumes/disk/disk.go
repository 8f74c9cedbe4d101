// Package disk mounts disks that come to the node over a network: each is attached and
// mounted once, and bound into the volumes of the pods that use it. What is attached is
// written down beside the mount, so that a kubelet that was ended at any point knows what
// to undo.
//
//	ROOT/KEY/disk.json      what Detach has to know
//	ROOT/KEY/globalmount    the file system
//
// A pod's block volume is a link to the device.
package disk

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/mount-utils"
	"k8s.io/utils/exec"

	"skiff/kubelet/statefile"
	"skiff/kubelet/volumes/volume"
)

// Disk is a disk as a pod wants it. T is what its kind writes down of it.
type Disk[T any] struct {
	// Key names it among those of the kind.
	Key string
	// About is what Attach and Detach get.
	About T
	// FSType is made where the disk is empty; default ext4.
	FSType       string
	MountOptions []string
	// ReadOnly mounts the disk so for all; the pod's own wish is in the request.
	ReadOnly bool
}

// Disks are those of one kind.
type Disks[T any] struct {
	// Root holds a folder for each disk, Pods one for each pod.
	Root, Pods string
	Mounter    mount.Interface
	Exec       exec.Interface
	// Attach brings a disk to the node, or finds that it is there, and returns its
	// device. What it needs of secrets is the caller's.
	Attach func(ctx context.Context, about *T, secrets map[string]string) (device string, err error)
	// Detach takes it away. It finds the device by itself: the name that was noted may be
	// another disk's since the node has booted. others are the disks that stay.
	Detach func(ctx context.Context, about *T, others []T) error

	locks volume.Locks[string]
}

// note is what disk.json holds.
type note[T any] struct {
	Device string `json:"device,omitempty"`
	About  T      `json:"about"`
}

const (
	noteFile    = "disk.json"
	globalMount = "globalmount"
)

// longest is how much of a key a folder's name has; file systems end at 255 bytes.
const longest = 180

// folder makes a file name of a key.
func folder(key string) string {
	name := strings.NewReplacer("/", "~", " ", "_").Replace(key)
	if len(name) <= longest {
		return name
	}
	return fmt.Sprintf("%s-%x", name[:longest], sha256.Sum224([]byte(key)))
}

func (d *Disks[T]) dir(key string) string   { return filepath.Join(d.Root, key) }
func (d *Disks[T]) mount(key string) string { return filepath.Join(d.Root, key, globalMount) }

// SetUp makes a disk ready for a pod.
func (d *Disks[T]) SetUp(ctx context.Context, r *volume.Request, disk Disk[T], secrets map[string]string) (*volume.Mounted, error) {
	disk.Key = folder(disk.Key)
	unlock, err := d.locks.Lock(ctx, disk.Key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	readOnly := disk.ReadOnly || r.ReadOnly()
	if !r.Block() {
		mounted, err := volume.MountPoint(d.Mounter, r.Dir)
		if err != nil {
			return nil, err
		}
		if mounted {
			return &volume.Mounted{Path: r.Dir, ReadOnly: readOnly}, nil
		}
	}
	device, err := d.attach(ctx, disk, secrets)
	if err != nil {
		return nil, &volume.StepError{Step: step(r, "WaitForAttach"), Err: err}
	}
	if r.Block() {
		if err := link(device, r.Dir); err != nil {
			return nil, err
		}
		return &volume.Mounted{Path: device, Block: true, ReadOnly: readOnly}, nil
	}
	if err := d.mountGlobally(disk, device); err != nil {
		return nil, &volume.StepError{Step: "MountVolume.MountDevice", Err: err}
	}
	if err := d.bind(r, disk, readOnly); err != nil {
		return nil, err
	}
	if g := r.FSGroup(); g != nil && !readOnly {
		if err := volume.SetOwnership(r.Dir, *g, false, r.Pod.Spec.SecurityContext.FSGroupChangePolicy); err != nil {
			return nil, err
		}
	}
	return &volume.Mounted{Path: r.Dir, ReadOnly: readOnly}, nil
}

// step names a step as events do.
func step(r *volume.Request, name string) string {
	if r.Block() {
		return "MapVolume." + name
	}
	return "MountVolume." + name
}

// attach writes down what is begun before it begins it.
func (d *Disks[T]) attach(ctx context.Context, disk Disk[T], secrets map[string]string) (string, error) {
	n := note[T]{About: disk.About}
	if err := n.write(d.dir(disk.Key)); err != nil {
		return "", err
	}
	device, err := d.Attach(ctx, &disk.About, secrets)
	if err != nil {
		return "", err
	}
	n.Device, n.About = device, disk.About
	return device, n.write(d.dir(disk.Key))
}

func (d *Disks[T]) mountGlobally(disk Disk[T], device string) error {
	at := d.mount(disk.Key)
	if err := os.MkdirAll(at, 0o750); err != nil {
		return err
	}
	mounted, err := volume.MountPoint(d.Mounter, at)
	if err != nil || mounted {
		return err
	}
	fsType := disk.FSType
	if fsType == "" {
		fsType = "ext4"
	}
	options := append([]string(nil), disk.MountOptions...)
	if disk.ReadOnly {
		options = append(options, "ro")
	}
	return mount.NewSafeFormatAndMount(d.Mounter, d.Exec).FormatAndMount(device, at, fsType, options)
}

func (d *Disks[T]) bind(r *volume.Request, disk Disk[T], readOnly bool) error {
	if err := os.MkdirAll(r.Dir, 0o750); err != nil {
		return err
	}
	options := append([]string{"bind"}, disk.MountOptions...)
	if readOnly {
		options = append(options, "ro")
	}
	if err := d.Mounter.MountSensitiveWithoutSystemd(d.mount(disk.Key), r.Dir, "", options, nil); err != nil {
		return errors.Join(err, os.Remove(r.Dir))
	}
	return nil
}

// link makes path lead to the device.
func link(device, path string) error {
	if to, err := os.Readlink(path); err == nil && to == device {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(device, path)
}

func (n note[T]) write(dir string) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return statefile.Write(filepath.Join(dir, noteFile), data)
}

// read returns nil where nothing was written down, or not to its end: the disk was not
// touched then.
func (d *Disks[T]) read(key string) (*note[T], error) {
	data, err := os.ReadFile(filepath.Join(d.dir(key), noteFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := &note[T]{}
	if err := json.Unmarshal(data, n); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(d.dir(key), noteFile), err)
	}
	return n, nil
}
