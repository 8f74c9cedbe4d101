package cri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/cri/shimapi"
	"skiff/kubelet/stopsignal"
)

// startFailure is the end of a container that never ran.
func startFailure(message string, at time.Time) *shimapi.Exit {
	return &shimapi.Exit{ExitCode: 128, FinishedAt: at, Reason: "StartError", Message: message}
}

// StopContainer implements RuntimeService.
func (r *Runtime) StopContainer(ctx context.Context, id string, timeout int64) error {
	c, err := r.container(id)
	if err != nil {
		return nil
	}
	if c.state() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil
	}
	if timeout > 0 {
		sig := stopsignal.Number(c.record().Stop)
		err := c.sandbox.shim.Signal(ctx, c.id, sig, false)
		if err != nil && !errors.Is(err, shimapi.ErrNotRunning) && !errors.Is(err, shimapi.ErrGone) {
			return coded(fmt.Errorf("failed to stop container %q: %w", c.id, err))
		}
		timer := time.NewTimer(time.Duration(timeout) * time.Second)
		defer timer.Stop()
		select {
		case <-c.done:
			return nil
		case <-ctx.Done():
			return coded(fmt.Errorf("failed to stop container %q: %w", c.id, ctx.Err()))
		case <-timer.C:
		}
	}
	return coded(r.killContainer(ctx, c))
}

// killContainer ends a container at once and waits for its end.
func (r *Runtime) killContainer(ctx context.Context, c *container) error {
	if c.state() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil
	}
	err := c.sandbox.shim.Signal(ctx, c.id, unix.SIGKILL, true)
	switch {
	case errors.Is(err, shimapi.ErrGone):
		r.lost(c)
		return nil
	case err != nil && !errors.Is(err, shimapi.ErrNotRunning):
		return err
	}
	timer := time.NewTimer(killPatience)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("container %q was killed and has not ended in %s", c.id, killPatience)
	}
}

// lost finishes a container whose shim is gone: its record of the exit counts
// if there is one, else what still runs is killed and how it ended is unknown.
func (r *Runtime) lost(c *container) {
	var exit shimapi.Exit
	if err := shimapi.ReadJSON(filepath.Join(c.dir, shimapi.ExitFile), &exit); err != nil {
		r.layout.kill(c.record().CgroupID)
		c.mu.Lock()
		exit = shimapi.Exit{ExitCode: 255, Reason: "Unknown", StartedAt: c.startedAt, FinishedAt: time.Now().UTC(), Message: "the pod's shim has ended"}
		c.mu.Unlock()
		// Best effort: without the record the next start comes to the same.
		_ = shimapi.WriteReserved(filepath.Join(c.dir, shimapi.ExitFile), exit)
	}
	if c.ended(&exit) {
		r.emit(c.id, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	}
}

// RemoveContainer implements RuntimeService.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	c, err := r.container(id)
	if err != nil {
		return nil
	}
	c.op.Lock()
	defer c.op.Unlock()
	if err := r.killContainer(ctx, c); err != nil {
		return coded(fmt.Errorf("failed to forcibly stop container %q: %w", c.id, err))
	}
	// On a full disk it is removed without a note of that: this is what makes room.
	if err := c.change(func(rec *containerRecord) { rec.Removing = true }); err != nil && !errors.Is(err, fs.ErrNotExist) && !shimapi.Full(err) {
		return coded(err)
	}
	if err := c.sandbox.shim.Forget(ctx, c.id); err != nil && !errors.Is(err, shimapi.ErrGone) {
		return coded(fmt.Errorf("failed to remove container %q: %w", c.id, err))
	}
	// What is left in it was moved there by someone else.
	r.layout.kill(c.record().CgroupID)
	if err := removeFolder(c.dir); err != nil {
		return coded(fmt.Errorf("failed to remove container %q: %w", c.id, err))
	}
	r.mu.Lock()
	delete(r.containers, c.id)
	r.mu.Unlock()
	r.unreserve(containerName(c.cfg.Metadata, c.sandbox.id), c.id)
	r.usage.forget(c.id)
	r.emit(c.id, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	return nil
}

// deadPrefix marks folders that only wait to be deleted.
const deadPrefix = "dead-"

// removeFolder unmounts what is below a container's folder and deletes it. It
// is renamed first, so that a crash leaves no folder that looks like a container.
func removeFolder(dir string) error {
	if err := unmountBelow(dir); err != nil {
		return err
	}
	dead := dir
	if base := filepath.Base(dir); !strings.HasPrefix(base, deadPrefix) {
		dead = filepath.Join(filepath.Dir(dir), deadPrefix+base)
		if err := os.Rename(dir, dead); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.RemoveAll(dead)
}
