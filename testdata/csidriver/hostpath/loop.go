package hostpath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// findLoop gives the loop device of a file, "" for none.
func findLoop(dev, file string) (string, error) {
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	var want unix.Stat_t
	if err := unix.Stat(file, &want); err != nil {
		return "", err
	}
	for _, b := range backing {
		path := filepath.Join(dev, filepath.Base(filepath.Dir(filepath.Dir(b))))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue // in use by others, or gone
		}
		info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		_ = f.Close()
		if err == nil && info.Inode == want.Ino && info.Device == want.Dev {
			return path, nil
		}
	}
	return "", nil
}

// attachLoop gives a file a loop device, or returns the one that it has.
func attachLoop(dev, file string) (string, error) {
	path, err := findLoop(dev, file)
	if err != nil || path != "" {
		return path, err
	}
	back, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer back.Close()
	control, err := os.OpenFile(filepath.Join(dev, "loop-control"), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	for range 10 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("get a loop device: %w", err)
		}
		path = filepath.Join(dev, fmt.Sprintf("loop%d", n))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		err = unix.IoctlSetInt(int(f.Fd()), unix.LOOP_SET_FD, int(back.Fd()))
		if errors.Is(err, unix.EBUSY) {
			_ = f.Close() // another was faster
			continue
		}
		if err == nil {
			info := &unix.LoopInfo64{}
			copy(info.File_name[:], strings.TrimSpace(file))
			err = unix.IoctlLoopSetStatus64(int(f.Fd()), info)
		}
		return path, errors.Join(err, f.Close())
	}
	return "", errors.New("no loop device is free")
}

func onLoop(dev, file string, request uint) error {
	path, err := findLoop(dev, file)
	if err != nil || path == "" {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlSetInt(int(f.Fd()), request, 0), f.Close())
}

// detachLoop frees the file's loop device.
func detachLoop(dev, file string) error { return onLoop(dev, file, unix.LOOP_CLR_FD) }

// growLoop makes the file's loop device as large as the file is.
func growLoop(dev, file string) error { return onLoop(dev, file, unix.LOOP_SET_CAPACITY) }
