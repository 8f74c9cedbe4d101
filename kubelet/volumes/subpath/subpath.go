// Package subpath gives a container a part of a volume without ever leaving
// the volume, whatever links the volume's users plant while it is resolved:
// the path is opened by the kernel with RESOLVE_BENEATH, and what was opened
// is what gets mounted.
package subpath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/volume"
)

// Request asks for one subPath.
type Request struct {
	// VolumePath is the volume, SubPath what of it is wanted.
	VolumePath, SubPath string
	// PodDir, VolumeName, Container and Index name the mount.
	PodDir, VolumeName, Container string
	Index                         int
}

// Root is the folder of a pod's subPath mounts.
func Root(podDir string) string { return filepath.Join(podDir, "volume-subpaths") }

// Prepare returns a path that is the wanted part of the volume for good; it
// makes the folders that are missing.
func Prepare(m mount.Interface, r Request) (string, error) {
	if filepath.IsAbs(r.SubPath) || strings.Contains("/"+r.SubPath+"/", "/../") {
		return "", fmt.Errorf("subPath %q: must be a relative path without '..'", r.SubPath)
	}
	root, err := unix.Open(r.VolumePath, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open volume %s: %w", r.VolumePath, err)
	}
	defer func() { _ = unix.Close(root) }()
	fd, err := openBeneath(root, r.SubPath, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		if err := mkdirBeneath(root, r.SubPath); err != nil {
			return "", fmt.Errorf("create subPath %q: %w", r.SubPath, err)
		}
		fd, err = openBeneath(root, r.SubPath, unix.O_PATH)
	}
	if err != nil {
		return "", fmt.Errorf("subPath %q: %w", r.SubPath, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return bind(m, r, fd)
}

func openBeneath(root int, path string, flags uint64) (int, error) {
	return unix.Openat2(root, path, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS})
}

// mkdirBeneath makes the missing folders of a path, one by one, each in a
// folder that is held open. They are as accessible as the volume itself.
func mkdirBeneath(root int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return err
	}
	mode := st.Mode & (0o777 | unix.S_ISGID)
	at, err := unix.Dup(root)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	done := ""
	for _, part := range strings.Split(filepath.Clean(path), "/") {
		if err := unix.Mkdirat(at, part, 0o750); err == nil {
			if fd, err := unix.Openat(at, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err == nil {
				err := unix.Fchmod(fd, mode) // the umask does not apply
				_ = unix.Close(fd)
				if err != nil {
					return err
				}
			}
		} else if !errors.Is(err, unix.EEXIST) {
			return err
		}
		done = filepath.Join(done, part)
		next, err := openBeneath(root, done, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		_ = unix.Close(at)
		at = next
	}
	return nil
}

// bind mounts what fd holds open onto a path of the kubelet's own.
func bind(m mount.Interface, r Request, fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	target := filepath.Join(Root(r.PodDir), r.VolumeName, r.Container, strconv.Itoa(r.Index))
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return "", err
	}
	// A mount left by an earlier instance may be of something else.
	if err := clean(m, target); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.Mkdir(target, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	} else {
		f, err := os.OpenFile(target, os.O_CREATE, 0o640)
		if err != nil {
			return "", err
		}
		if err := f.Close(); err != nil {
			return "", err
		}
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("mount subPath %q: %w", r.SubPath, err)
	}
	return target, nil
}

func clean(m mount.Interface, target string) error {
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for {
		// A bind mount of a folder of the same file system is only found in
		// the list of mounts.
		list, err := m.List()
		if err != nil {
			return err
		}
		found := false
		for _, mp := range list {
			found = found || mp.Path == target
		}
		if !found {
			break
		}
		if err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return err
		}
	}
	return os.Remove(target)
}

// CleanPod unmounts and removes all subPath mounts of a pod.
func CleanPod(m mount.Interface, podDir string) error {
	root := Root(podDir)
	if _, err := os.Lstat(root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	list, err := m.List()
	if err != nil {
		return err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if strings.HasPrefix(list[i].Path, root+"/") {
			if err := unix.Unmount(list[i].Path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
				return err
			}
		}
	}
	return volume.RemoveAllOneFS(m, root)
}
