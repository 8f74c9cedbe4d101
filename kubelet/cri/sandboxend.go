package cri

import (
	"context"
	"fmt"
	"os"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"skiff/kubelet/cri/shimapi"
)

// endSandbox keeps a sandbox of which something could not be given back, so that
// it is listed and can be stopped.
func (r *Runtime) endSandbox(ctx context.Context, sb *sandbox) {
	if err := r.changeSandbox(sb, func(rec *sandboxRecord) { rec.Phase = phaseEnded }); err != nil {
		klog.FromContext(ctx).Error(err, "Could not record a pod sandbox's end", "sandbox", sb.id)
		sb.mu.Lock()
		sb.rec.Phase = phaseEnded
		sb.mu.Unlock()
	}
	r.mu.Lock()
	r.sandboxes[sb.id] = sb
	r.mu.Unlock()
}

// StopPodSandbox implements RuntimeService.
func (r *Runtime) StopPodSandbox(ctx context.Context, id string) error {
	sb, err := r.sandbox(id)
	if err != nil {
		return nil // as CRI says: stopping what is gone is no error
	}
	sb.op.Lock()
	defer sb.op.Unlock()
	return coded(r.stopSandbox(ctx, sb))
}

// stopSandbox ends a sandbox's containers, network and shim. The caller holds op.
func (r *Runtime) stopSandbox(ctx context.Context, sb *sandbox) error {
	if sb.phase() == phaseStopped {
		return nil
	}
	for _, c := range r.containersOf(sb.id) {
		if err := r.killContainer(ctx, c); err != nil {
			return fmt.Errorf("failed to stop container %q: %w", c.id, err)
		}
	}
	if err := r.releaseSandbox(ctx, sb); err != nil {
		return err
	}
	err := r.changeSandbox(sb, func(rec *sandboxRecord) { rec.Phase = phaseStopped })
	if shimapi.Full(err) {
		// The next process finds the shim gone, and comes to the same.
		sb.mu.Lock()
		sb.rec.Phase = phaseStopped
		sb.mu.Unlock()
	} else if err != nil {
		return err
	}
	r.emit(sb.id, sb, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	return nil
}

// releaseSandbox takes down a sandbox's network and shim.
func (r *Runtime) releaseSandbox(ctx context.Context, sb *sandbox) error {
	if !sb.hostNetwork() {
		if err := r.cfg.Network.Teardown(ctx, r.networkPod(sb)); err != nil {
			return fmt.Errorf("failed to destroy network for sandbox %q: %w", sb.id, err)
		}
	}
	return endShim(ctx, sb.dir)
}

// destroySandbox removes all traces of a sandbox, its record last.
func (r *Runtime) destroySandbox(ctx context.Context, sb *sandbox) error {
	if sb.phase() != phaseStopped {
		if err := r.releaseSandbox(ctx, sb); err != nil {
			return err
		}
	}
	if err := unmountBelow(sb.dir); err != nil {
		return err
	}
	if err := os.RemoveAll(sb.dir); err != nil {
		return err
	}
	if sb.record().MadeCgroup {
		r.layout.remove(sb.cfg.GetLinux().GetCgroupParent())
	}
	return os.RemoveAll(r.sandboxDir(sb.id))
}

// RemovePodSandbox implements RuntimeService.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	sb, err := r.sandbox(id)
	if err != nil {
		return nil
	}
	sb.op.Lock()
	defer sb.op.Unlock()
	if err := r.stopSandbox(ctx, sb); err != nil {
		return coded(fmt.Errorf("failed to forcibly stop sandbox %q: %w", sb.id, err))
	}
	for _, c := range r.containersOf(sb.id) {
		if err := r.RemoveContainer(ctx, c.id); err != nil {
			return err
		}
	}
	if err := r.destroySandbox(ctx, sb); err != nil {
		return coded(fmt.Errorf("failed to remove sandbox %q: %w", sb.id, err))
	}
	r.mu.Lock()
	delete(r.sandboxes, sb.id)
	r.mu.Unlock()
	r.unreserve(sandboxName(sb.cfg.Metadata), sb.id)
	r.emit(sb.id, nil, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	return nil
}
