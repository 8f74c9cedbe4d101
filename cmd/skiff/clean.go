package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"skiff/cluster/layout"
	"skiff/kubelet/network"
	"skiff/kubelet/network/policy"
	"skiff/proxy"
)

// cleanPods ends every process in the node's cgroups, unmounts all below its
// folders and removes the cgroups. Nothing of the node runs any more.
func cleanPods(ctx context.Context, l layout.Layout) error {
	var errs []error
	dirs := cgroupDirs(l)
	deadline := time.Now().Add(10 * time.Second)
	for {
		pids := processes(dirs)
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
		}
		if time.Now().After(deadline) {
			errs = append(errs, fmt.Errorf("%d processes of pods did not end", len(pids)))
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	errs = append(errs, unmountBelow(l.State(), l.Kubelet(), l.Run()))
	for _, dir := range dirs {
		errs = append(errs, removeCgroup(dir))
	}
	return errors.Join(errs...)
}

// cgroupDirs are the node's cgroups in every hierarchy.
func cgroupDirs(l layout.Layout) []string {
	names := []string{"kubepods", "skiff-shims", "skiff-pods"}
	if !l.IsHost() {
		names = []string{strings.Trim(l.CgroupRoot(), "/")}
	}
	roots, err := filepath.Glob("/sys/fs/cgroup/*")
	if err != nil {
		return nil
	}
	var out []string
	for _, root := range append(roots, "/sys/fs/cgroup") {
		for _, name := range names {
			dir := filepath.Join(root, name)
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				out = append(out, dir)
			}
		}
	}
	return out
}

func processes(dirs []string) []int {
	var out []int
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() != "cgroup.procs" {
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return nil // the cgroup went meanwhile
			}
			for line := range bytes.Lines(data) {
				if pid, err := strconv.Atoi(strings.TrimSpace(string(line))); err == nil {
					out = append(out, pid)
				}
			}
			return nil
		})
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// removeCgroup removes a tree of cgroups, the leaves first.
func removeCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	errs := []error{err}
	for _, d := range slices.Backward(dirs) {
		if err := unix.Rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", d, err))
		}
	}
	return errors.Join(errs...)
}

// unmountBelow unmounts everything mounted below the folders, the deepest first,
// and the folders themselves where they are mounted on themselves.
func unmountBelow(folders ...string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) < 5 {
			continue
		}
		point := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(f[4])
		for _, folder := range folders {
			// A folder that is mounted on itself is the kubelet's doing; a disk
			// of its own is not.
			if strings.HasPrefix(point, folder+"/") || point == folder && f[3] != "/" && strings.HasSuffix(folder, f[3]) {
				points = append(points, point)
			}
		}
	}
	var errs []error
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

// cleanNetwork removes rules and links. A node with a namespace of its own needs
// none of it: all goes with the namespace.
func cleanNetwork(ctx context.Context, netns string) error {
	if netns != "" {
		return nil
	}
	return errors.Join(proxy.Clean(), network.Clean(), policy.Clean(ctx))
}
