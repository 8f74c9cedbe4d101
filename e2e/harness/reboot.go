package harness

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Down stops the nodes as a person does.
func (c *Cluster) Down() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, c.Bin, "down", "--root", c.Root).CombinedOutput(); err != nil {
		return fmt.Errorf("skiff down: %w\n%s", err, out)
	}
	return nil
}

// PowerCut does to the nodes what a reset of their machine does: everything that
// runs ends at once, and what is not on disk is gone with it.
func (c *Cluster) PowerCut() error {
	ids := slices.Collect(maps.Keys(c.Processes()))
	if err := c.Kill(); err != nil {
		return err
	}
	for end := time.Now().Add(20 * time.Second); ; {
		left := slices.Concat(inCgroups(ids), slices.Collect(maps.Keys(commandLines(c.Root, ids))))
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes %v do not end", left)
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		time.Sleep(20 * time.Millisecond)
	}
	points, err := mountPoints(c.Root, ids)
	if err != nil {
		return err
	}
	for _, p := range slices.Backward(points) {
		if strings.HasPrefix(p, "/run/netns/") {
			continue // the nodes' own, which are their machines here
		}
		if err := syscall.Unmount(p, syscall.MNT_DETACH); err != nil && err != syscall.EINVAL {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	for _, dir := range leakedNames("/run", ids) {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// inCgroups are the processes in cgroups of a cluster.
func inCgroups(ids []string) []int {
	var out []int
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" || !mentions(path, ids) {
			return nil // cgroups come and go
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for _, text := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(text); err == nil && pid > 1 {
				out = append(out, pid)
			}
		}
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out)
}
