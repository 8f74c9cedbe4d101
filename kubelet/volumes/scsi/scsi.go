// Package scsi looks at the SCSI disks of the node, and adds and removes them.
package scsi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/exec"
)

// Host is the node's tree of files: /sys and /dev below Root, which is "/" or a test's.
type Host struct{ Root string }

// Path is a path of the tree.
func (h Host) Path(parts ...string) string {
	return filepath.Join(append([]string{h.Root}, parts...)...)
}

// name is a device's name in /sys/block; by-path and by-id names are links.
func (h Host) name(device string) (string, error) {
	real, err := filepath.EvalSymlinks(device)
	if err != nil {
		return "", err
	}
	return filepath.Base(real), nil
}

// Multipath is the device mapper's device over a disk that has several ways to it, or
// the disk itself where there is none.
func (h Host) Multipath(device string) string {
	name, err := h.name(device)
	if err != nil {
		return device
	}
	holders, err := os.ReadDir(h.Path("sys/block", name, "holders"))
	if err != nil {
		return device
	}
	for _, holder := range holders {
		uuid, err := os.ReadFile(h.Path("sys/block", holder.Name(), "dm/uuid"))
		if err == nil && strings.HasPrefix(string(uuid), "mpath-") {
			return h.Path("dev", holder.Name())
		}
	}
	return device
}

// Parts are the names of the disks behind a device: those of a multipath device, or its
// own.
func (h Host) Parts(device string) ([]string, error) {
	name, err := h.name(device)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it is gone
	}
	if err != nil {
		return nil, err
	}
	slaves, err := os.ReadDir(h.Path("sys/block", name, "slaves"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(slaves) == 0 {
		return []string{name}, nil
	}
	var out []string
	for _, s := range slaves {
		out = append(out, s.Name())
	}
	return out, nil
}

// Remove takes a device's disks from the kernel, with what it has of them in memory
// written first.
func (h Host) Remove(ctx context.Context, e exec.Interface, device string) error {
	parts, err := h.Parts(device)
	if err != nil {
		return err
	}
	if real, err := h.name(device); err == nil && strings.HasPrefix(real, "dm-") {
		out, err := e.CommandContext(ctx, "multipath", "-f", h.Path("dev", real)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("flush multipath device %s: %w: %s", real, err, strings.TrimSpace(string(out)))
		}
	}
	var errs []error
	for _, name := range parts {
		if err := flush(h.Path("dev", name)); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := os.WriteFile(h.Path("sys/block", name, "device/delete"), []byte("1"), 0o200); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove disk %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func flush(device string) error {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // it is gone, or cannot be written to at all
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Rescan has adapters look for disks: channel, target and unit, "-" for all. An adapter
// that refuses has none.
func (h Host) Rescan(host, channel, target, unit string) error {
	return os.WriteFile(h.Path("sys/class/scsi_host", host, "scan"), []byte(channel+" "+target+" "+unit), 0o200)
}

// Hosts are the names of the node's SCSI adapters.
func (h Host) Hosts() ([]string, error) {
	entries, err := os.ReadDir(h.Path("sys/class/scsi_host"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	slices.Sort(out)
	return out, nil
}

// Wait looks every so often until find has something, for a bounded time.
func Wait(ctx context.Context, bound, every time.Duration, find func() string) string {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for {
		if found := find(); found != "" {
			return found
		}
		select {
		case <-ctx.Done():
			return ""
		case <-time.After(every):
		}
	}
}
