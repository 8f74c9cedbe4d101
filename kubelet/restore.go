package kubelet

import (
	"context"
	"time"

	"k8s.io/klog/v2"
)

// restorePause is the time between two tries to take the state of earlier kubelets.
const restorePause = 10 * time.Second

// restore takes what earlier kubelets wrote of the devices, CPUs, memory and claims
// that pods have, and closes restored. Where it does not fit this node it says so in
// the node's status.
func (k *Kubelet) restore(ctx context.Context) bool {
	for _, restore := range []func() error{k.devices.Restore, k.cpus.Restore, k.memory.Restore, k.claims.Restore} {
		if err := restore(); err != nil {
			why := "failed to start ContainerManager: " + err.Error()
			if before := k.unrestored.Swap(&why); before == nil || *before != why {
				klog.FromContext(ctx).Error(err, "The node runs no pods until its state can be restored")
			}
			return false
		}
	}
	k.unrestored.Store(nil)
	close(k.restored)
	return true
}

// keepRestoring tries until the state could be taken: the file that is in the way goes
// while the node is drained. Until then the pods that run are left alone.
func (k *Kubelet) keepRestoring(ctx context.Context) error {
	ticker := time.NewTicker(restorePause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.restored:
			return nil
		case <-ticker.C:
		}
		if k.restore(ctx) {
			k.node.Poke()
			return nil
		}
	}
}

// after runs a part once the channel is closed.
func after(start <-chan struct{}, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-start:
			return run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}
