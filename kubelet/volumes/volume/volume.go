// Package volume is the contract between the volume manager and the kinds of
// volumes, each of which is a folder of its own beside this one.
package volume

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/mount-utils"
)

// Request asks for one volume of a pod.
type Request struct {
	Pod    *v1.Pod
	Volume *v1.Volume
	// PV and PVC are set for a persistent volume.
	PV  *v1.PersistentVolume
	PVC *v1.PersistentVolumeClaim
	// Dir is the volume's own folder below the pod's; it does not exist yet.
	Dir string
}

// ReadOnly reports whether the whole volume is read-only.
func (r *Request) ReadOnly() bool {
	if r.PV != nil {
		if c := r.Volume.PersistentVolumeClaim; c != nil && c.ReadOnly {
			return true
		}
	}
	return false
}

// Block reports whether the pod wants the device and not what is on it.
func (r *Request) Block() bool {
	return r.PV != nil && r.PV.Spec.VolumeMode != nil && *r.PV.Spec.VolumeMode == v1.PersistentVolumeBlock
}

// FSGroup is the group that owns the pod's volumes, nil for none.
func (r *Request) FSGroup() *int64 {
	if r.Pod.Spec.SecurityContext == nil {
		return nil
	}
	return r.Pod.Spec.SecurityContext.FSGroup
}

// Mounted is a volume that is ready for containers.
type Mounted struct {
	// Path is the folder, file or device on the host.
	Path string
	// Block says that Path is a device for volumeDevices.
	Block bool
	// Image, when set, makes the runtime mount the image instead of Path.
	Image string
	// ReadOnly forces read-only mounts. What the kubelet writes into a volume
	// is so: a container could else plant links for the kubelet to follow.
	ReadOnly bool
	// Refresh is when to set the volume up again, though nothing tells; 0 never.
	Refresh time.Duration
}

// Plugin is one kind of volume.
type Plugin interface {
	// Name is the kind's name, such as kubernetes.io/empty-dir.
	Name() string
	// Supports reports whether the volume is of this kind.
	Supports(r *Request) bool
	// SetUp makes the volume ready. It is called again to bring contents up
	// to date, and finds what an earlier kubelet made.
	SetUp(ctx context.Context, r *Request) (*Mounted, error)
	// TearDown undoes SetUp given the volume's folder alone.
	TearDown(ctx context.Context, dir string) error
}

// Usage is how full a volume is; what is not known is nil.
type Usage struct {
	Capacity, Available, Used      *uint64
	Inodes, InodesFree, InodesUsed *uint64
}

// Measurer is a Plugin that knows how full its volumes are.
type Measurer interface {
	// Measure returns nil when it does not know.
	Measure(ctx context.Context, r *Request) (*Usage, error)
}

// Statfs measures what is mounted on a folder.
func Statfs(dir string) (*Usage, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return nil, err
	}
	size := uint64(fs.Bsize)
	capacity, available, used := fs.Blocks*size, fs.Bavail*size, (fs.Blocks-fs.Bfree)*size
	inodesUsed := fs.Files - fs.Ffree
	return &Usage{Capacity: &capacity, Available: &available, Used: &used, Inodes: &fs.Files, InodesFree: &fs.Ffree, InodesUsed: &inodesUsed}, nil
}

// Forgetter is a Plugin that keeps notes of pods.
type Forgetter interface {
	// Forget drops them, after all volumes of the pod were torn down.
	Forget(uid types.UID)
}

// Sweeper is a Plugin that has something on the node beside pods' folders.
type Sweeper interface {
	// Sweep undoes what no pod needs any more.
	Sweep(ctx context.Context) error
}

// StepError is the failure of one of the steps of SetUp, which events name.
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap gives the failure itself.
func (e *StepError) Unwrap() error { return e.Err }

// Objects gives the API objects that volumes hold.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

// Tokens gives service account tokens.
type Tokens interface {
	Token(ctx context.Context, pod *v1.Pod, audience string, expirationSeconds *int64) (*authenticationv1.TokenRequestStatus, error)
}

// Escape makes a plugin's name fit for a folder.
func Escape(name string) string { return strings.ReplaceAll(name, "/", "~") }

// Unescape undoes Escape.
func Unescape(name string) string { return strings.ReplaceAll(name, "~", "/") }

// MountPoint reports whether something is mounted on dir.
func MountPoint(m mount.Interface, dir string) (bool, error) {
	mounted, err := m.IsMountPoint(dir)
	if os.IsNotExist(err) {
		return false, nil
	}
	return mounted, err
}

// UnmountAndRemove unmounts dir when something is mounted there and removes
// the folder, which has to be empty then.
func UnmountAndRemove(m mount.Interface, dir string) error {
	for {
		mounted, err := MountPoint(m, dir)
		if err != nil {
			return err
		}
		if !mounted {
			break
		}
		if err := m.Unmount(dir); err != nil {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// RemoveAllOneFS removes dir and what is below it, refusing to follow into
// anything that is mounted there.
func RemoveAllOneFS(m mount.Interface, dir string) error {
	list, err := m.List()
	if err != nil {
		return err
	}
	for _, mp := range list {
		if mp.Path == dir || strings.HasPrefix(mp.Path, dir+"/") {
			return fmt.Errorf("%s is still mounted", mp.Path)
		}
	}
	return os.RemoveAll(dir)
}

// SetOwnership gives a volume to a group: files become readable and writable
// for it and folders set the group of what is made in them. With policy
// OnRootMismatch a volume whose top is right is left alone.
func SetOwnership(dir string, group int64, readOnly bool, policy *v1.PodFSGroupChangePolicy) error {
	if policy != nil && *policy == v1.FSGroupChangeOnRootMismatch {
		if info, err := os.Lstat(dir); err == nil {
			st, ok := info.Sys().(*syscall.Stat_t)
			want := groupMode(readOnly)
			if ok && int64(st.Gid) == group && info.Mode().Perm()&want == want && info.Mode()&os.ModeSetgid != 0 {
				return nil
			}
		}
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		if err := os.Lchown(path, -1, int(group)); err != nil {
			return err
		}
		if info.Mode()&os.ModeSymlink != 0 {
			return nil
		}
		mode := info.Mode().Perm() | groupMode(readOnly)
		if info.IsDir() {
			mode |= 0o110 | os.ModeSetgid
		}
		return os.Chmod(path, mode)
	})
}

func groupMode(readOnly bool) os.FileMode {
	if readOnly {
		return 0o440
	}
	return 0o660
}
