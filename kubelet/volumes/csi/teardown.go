package csi

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	csispec "github.com/container-storage-interface/spec/lib/go/csi"

	"skiff/kubelet/volumes/volume"
)

// TearDown implements volume.Plugin: it unpublishes the volume, and unstages
// it when no other pod uses it.
func (p *Plugin) TearDown(ctx context.Context, dir string) error {
	p.restore()
	u, block := p.layout.owner(dir)
	data, path := dir, filepath.Join(dir, "mount")
	if block {
		_, data = p.layout.staging(key{}, u.spec, true)
		path = p.layout.device(u)
	}
	r, err := readNote(data)
	if err != nil {
		return err
	}
	if r == nil {
		// The driver was not asked for anything yet.
		return p.removePublished(dir, path, block)
	}
	unlock, err := p.locks.Lock(ctx, r.key())
	if err != nil {
		return err
	}
	defer unlock()
	d, err := p.driver(ctx, r.Driver)
	if err != nil {
		return err
	}
	_, err = call(ctx, func(ctx context.Context) (*csispec.NodeUnpublishVolumeResponse, error) {
		return d.node().NodeUnpublishVolume(ctx, &csispec.NodeUnpublishVolumeRequest{VolumeId: r.Handle, TargetPath: path})
	})
	if err != nil {
		return err
	}
	if p.last(r.key(), u) && !r.ephemeral() {
		if err := p.unstage(ctx, d, r, block); err != nil {
			return err
		}
	}
	if err := p.removePublished(dir, path, block); err != nil {
		return err
	}
	p.end(r.key(), u)
	return nil
}

// removePublished removes a pod's places of a volume, whatever is mounted there
// still.
func (p *Plugin) removePublished(dir, path string, block bool) error {
	if err := volume.UnmountAndRemove(p.cfg.Mounter, path); err != nil {
		return err
	}
	if block {
		if err := os.Remove(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) && !notEmpty(err) {
			return err
		}
	} else if err := forget(dir); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unstage undoes stageVolume. The caller has the volume's lock.
func (p *Plugin) unstage(ctx context.Context, d *driver, r *note, block bool) error {
	path, data := p.layout.staging(r.key(), r.Spec, block)
	staged, err := readNote(data)
	if err != nil || staged == nil {
		return err
	}
	if d.stage {
		_, err := call(ctx, func(ctx context.Context) (*csispec.NodeUnstageVolumeResponse, error) {
			return d.node().NodeUnstageVolume(ctx, &csispec.NodeUnstageVolumeRequest{VolumeId: r.Handle, StagingTargetPath: path})
		})
		if err != nil {
			return err
		}
	}
	p.mu.Lock()
	if s := p.volumes[r.key()]; s != nil {
		s.staged = false
	}
	p.mu.Unlock()
	if err := volume.UnmountAndRemove(p.cfg.Mounter, path); err != nil {
		return err
	}
	if err := forget(data); err != nil {
		return err
	}
	for _, dir := range []string{data, filepath.Dir(data)} {
		if dir == p.layout.plugin() {
			break
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !notEmpty(err) {
			return err
		}
	}
	return nil
}

// Sweep unstages what no pod uses: the node was ended between two steps, or
// pods were taken away without it.
func (p *Plugin) Sweep(ctx context.Context) error {
	p.restore()
	staged, err := p.layout.staged()
	errs := []error{err}
	for _, f := range staged {
		errs = append(errs, p.sweep(ctx, f))
	}
	return errors.Join(errs...)
}

func (p *Plugin) sweep(ctx context.Context, f found) error {
	if !p.unused(f.key()) {
		return nil
	}
	unlock, err := p.locks.Lock(ctx, f.key())
	if err != nil {
		return err
	}
	defer unlock()
	if !p.unused(f.key()) {
		return nil
	}
	d, err := p.driver(ctx, f.Driver)
	if err != nil {
		return err
	}
	return p.unstage(ctx, d, &f.note, f.block)
}

func (p *Plugin) unused(k key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.volumes[k] == nil
}

func notEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST)
}
