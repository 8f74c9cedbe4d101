package cri

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/cri/images"
)

// Folders of a container.
const (
	rootDir   = "root"  // where the container's root is mounted
	upperDir  = "upper" // what the container writes
	workDir   = "work"  // overlayfs' own
	imagesDir = "img"   // image volumes
	mappedDir = "map"   // layers seen through a user namespace
)

// mountRoot stacks an image's layers and a writable one at dir/root.
func mountRoot(store *images.Store, image *images.Image, dir string, userns *runtimeapi.UserNamespace, usernsPath string) error {
	for _, d := range []string{rootDir, upperDir, workDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	lower, base := store.LayerNames(image), store.LayerRoot()
	if mapped(userns) {
		for _, d := range []string{rootDir, upperDir, workDir} {
			if err := os.Chown(filepath.Join(dir, d), int(userns.Uids[0].HostId), int(userns.Gids[0].HostId)); err != nil {
				return err
			}
		}
		var err error
		if lower, base, err = mapLayers(base, lower, dir, usernsPath); err != nil {
			return err
		}
	}
	if len(lower) == 0 { // an image from scratch with nothing in it
		if err := os.MkdirAll(filepath.Join(dir, "empty"), 0o755); err != nil {
			return err
		}
		lower, base = []string{"empty"}, dir
	}
	if err := copyRootMode(filepath.Join(base, lower[0]), filepath.Join(dir, upperDir)); err != nil {
		return err
	}
	options := "lowerdir=" + strings.Join(lower, ":") +
		",upperdir=" + filepath.Join(dir, upperDir) + ",workdir=" + filepath.Join(dir, workDir)
	if err := mountFrom(base, "overlay", filepath.Join(dir, rootDir), options, 0); err != nil {
		return fmt.Errorf("mount the container's root: %w", err)
	}
	return nil
}

// copyRootMode gives the writable layer the mode of the image's root folder.
func copyRootMode(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return fmt.Errorf("image layer: %w", err)
	}
	return unix.Chmod(to, st.Mode&0o7777)
}

// mountImage mounts an image read-only at dir.
func mountImage(store *images.Store, image *images.Image, dir string) error {
	point, empty := filepath.Join(dir, "m"), filepath.Join(dir, "e")
	for _, d := range []string{point, empty} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// overlayfs wants two layers where none is writable.
	options := "lowerdir=" + strings.Join(append(store.LayerNames(image), empty), ":")
	return mountFrom(store.LayerRoot(), "overlay", point, options, unix.MS_RDONLY)
}

// mountFrom mounts with base as working folder, so that options may name what
// is below it by short relative paths: they must fit in one page.
func mountFrom(base, fstype, target, options string, flags uintptr) error {
	if len(options) >= os.Getpagesize() {
		return fmt.Errorf("the image has too many layers for one mount: options take %d bytes", len(options))
	}
	done := make(chan error, 1)
	go func() {
		// The thread gets a working folder of its own and ends with this goroutine.
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Chdir(base); err != nil {
				return err
			}
			return unix.Mount(fstype, target, fstype, flags, options)
		}()
	}()
	return <-done
}

func mapped(u *runtimeapi.UserNamespace) bool {
	return u.GetMode() == runtimeapi.NamespaceMode_POD && len(u.GetUids()) > 0 && len(u.GetGids()) > 0
}

// mapLayers binds each layer below dir so that its files belong to the ids that
// they have inside the user namespace.
func mapLayers(base string, lower []string, dir, usernsPath string) ([]string, string, error) {
	ns, err := os.Open(usernsPath)
	if err != nil {
		return nil, "", err
	}
	defer ns.Close()
	out := make([]string, len(lower))
	for i, l := range lower {
		out[i] = fmt.Sprintf("%s/%d", mappedDir, i)
		target := filepath.Join(dir, out[i])
		if err := os.MkdirAll(target, 0o755); err != nil {
			return nil, "", err
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, filepath.Join(base, l), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return nil, "", fmt.Errorf("layer for a user namespace: %w", err)
		}
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
			Attr_set: unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_RDONLY, Userns_fd: uint64(ns.Fd()),
		})
		if err == nil {
			err = unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		unix.Close(fd)
		if err != nil {
			return nil, "", fmt.Errorf("map a layer's owners into the user namespace: %w; it needs idmapped mounts (Linux 5.19 and a file system that has them)", err)
		}
	}
	return out, dir, nil
}

// openIn opens a file of a container's root as the container would see it:
// links lead nowhere outside.
func openIn(root, name string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// openDirIn finds a folder or file below a read-only root and returns its host
// path, which no link leads out of the root.
func openDirIn(root, name string) (string, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
}
