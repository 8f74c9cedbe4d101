package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"

	"skiff/kubelet/volumes/subpath"
	"skiff/kubelet/volumes/volume"
)

// TearDown takes all volumes of a pod down and removes its folder. It needs
// nothing but the disk.
func (m *Manager) TearDown(ctx context.Context, uid types.UID) error {
	dir := m.PodDir(uid)
	if err := subpath.CleanPod(m.cfg.Mounter, dir); err != nil {
		return fmt.Errorf("subPaths of pod %s: %w", uid, err)
	}
	errs := append(m.tearDownAll(ctx, filepath.Join(dir, filesDir)), m.tearDownAll(ctx, filepath.Join(dir, devicesDir))...)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := volume.RemoveAllOneFS(m.cfg.Mounter, dir); err != nil {
		return fmt.Errorf("remove the folder of pod %s: %w", uid, err)
	}
	m.mu.Lock()
	delete(m.ready, uid)
	delete(m.groups, uid)
	delete(m.usage, uid)
	m.mu.Unlock()
	for _, p := range m.cfg.Plugins {
		if f, ok := p.(volume.Forgetter); ok {
			f.Forget(uid)
		}
	}
	return nil
}

// tearDownAll takes down the volumes of all kinds in one of a pod's folders.
func (m *Manager) tearDownAll(ctx context.Context, dir string) []error {
	kinds, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, kind := range kinds {
		list, err := os.ReadDir(filepath.Join(dir, kind.Name()))
		errs = append(errs, err)
		for _, v := range list {
			path := filepath.Join(dir, kind.Name(), v.Name())
			if err := m.tearDown(ctx, volume.Unescape(kind.Name()), path); err != nil {
				errs = append(errs, fmt.Errorf("UnmountVolume.TearDown failed for volume %q: %w", v.Name(), err))
			}
		}
	}
	return errs
}

// Sweep undoes what volumes have on the node beside pods' folders and no pod
// needs any more.
func (m *Manager) Sweep(ctx context.Context) error {
	var errs []error
	for _, p := range m.cfg.Plugins {
		if s, ok := p.(volume.Sweeper); ok {
			errs = append(errs, s.Sweep(ctx))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) tearDown(ctx context.Context, plugin, dir string) error {
	for _, p := range m.cfg.Plugins {
		if p.Name() == plugin {
			return p.TearDown(ctx, dir)
		}
	}
	return volume.UnmountAndRemove(m.cfg.Mounter, dir)
}
