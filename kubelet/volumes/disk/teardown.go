package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"skiff/kubelet/volumes/volume"
)

// TearDown takes a disk from a pod, and from the node when no other pod uses it.
func (d *Disks[T]) TearDown(ctx context.Context, dir string) error {
	key, err := d.of(dir)
	if err != nil {
		return err
	}
	if key == "" {
		return volume.UnmountAndRemove(d.Mounter, dir)
	}
	unlock, err := d.locks.Lock(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	if err := volume.UnmountAndRemove(d.Mounter, dir); err != nil {
		return err
	}
	return d.release(ctx, key)
}

// Sweep takes away the disks that no pod uses any more: a kubelet was ended before it
// could, or a pod before it had its disk.
func (d *Disks[T]) Sweep(ctx context.Context) error {
	keys, err := d.keys()
	if err != nil {
		return err
	}
	var errs []error
	for _, key := range keys {
		errs = append(errs, d.sweep(ctx, key))
	}
	return errors.Join(errs...)
}

func (d *Disks[T]) sweep(ctx context.Context, key string) error {
	unlock, ok := d.locks.Try(key)
	if !ok {
		return nil // a pod is about to have it, which may take its time
	}
	defer unlock()
	return d.release(ctx, key)
}

// release detaches a disk unless a pod uses it. The caller has its lock.
func (d *Disks[T]) release(ctx context.Context, key string) error {
	n, err := d.read(key)
	if err != nil || n == nil {
		return err
	}
	used, err := d.used(key, n.Device)
	if err != nil || used {
		return err
	}
	if err := volume.UnmountAndRemove(d.Mounter, d.mount(key)); err != nil {
		return fmt.Errorf("UnmountDevice failed for disk %q: %w", key, err)
	}
	keys, err := d.keys()
	if err != nil {
		return err
	}
	var others []T
	for _, k := range keys {
		if k == key {
			continue
		}
		if other, err := d.read(k); err == nil && other != nil {
			others = append(others, other.About)
		}
	}
	if err := d.Detach(ctx, &n.About, others); err != nil {
		return fmt.Errorf("detach disk %q: %w", key, err)
	}
	return os.RemoveAll(d.dir(key))
}

// keys are those of the disks that are written down.
func (d *Disks[T]) keys() ([]string, error) {
	entries, err := os.ReadDir(d.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, err
}

// of finds the disk of a pod's volume; "" where it has none.
func (d *Disks[T]) of(dir string) (string, error) {
	device, err := os.Readlink(dir)
	linked := err == nil
	keys, err := d.keys()
	if err != nil {
		return "", err
	}
	mounted, err := d.devices()
	if err != nil {
		return "", err
	}
	if !linked {
		device = mounted[dir]
	}
	if device == "" {
		return "", nil
	}
	for _, key := range keys {
		n, err := d.read(key)
		if err != nil {
			return "", err
		}
		if linked && n != nil && n.Device == device || !linked && mounted[d.mount(key)] == device {
			return key, nil
		}
	}
	return "", nil
}

// devices are what is mounted, by path.
func (d *Disks[T]) devices() (map[string]string, error) {
	list, err := d.Mounter.List()
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(list))
	for _, m := range list {
		out[m.Path] = m.Device
	}
	return out, nil
}

// used tells whether a disk is mounted elsewhere than for the node, or a pod has a link
// to it.
func (d *Disks[T]) used(key, device string) (bool, error) {
	mounted, err := d.devices()
	if err != nil {
		return false, err
	}
	if device == "" {
		return false, nil // it was not attached yet
	}
	at := mounted[d.mount(key)]
	if real, err := filepath.EvalSymlinks(device); at == "" && err == nil {
		at = real
	}
	for path, other := range mounted {
		if other == at && path != d.mount(key) {
			return true, nil
		}
	}
	links, err := filepath.Glob(filepath.Join(d.Pods, "*", "volumeDevices", "*", "*"))
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && to == device {
			return true, nil
		}
	}
	return false, nil
}
