package kubelet

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/podstate"
)

// reclaim frees disk that nobody needs: what the containers of pods that have ended
// wrote, and images that nothing uses.
func (k *Kubelet) reclaim(ctx context.Context) error {
	var errs []error
	for _, pod := range k.endedPods() {
		state, err := podstate.Read(ctx, k.cfg.Runtime, pod.UID)
		if err == nil && len(state.Containers)+len(state.Sandboxes) > 0 {
			err = k.manager.Destroy(ctx, pod, state)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, k.imageGC.DeleteUnused(ctx))...)
}

// endedPods are those of which nothing runs or will run.
func (k *Kubelet) endedPods() []*v1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []*v1.Pod
	for _, r := range k.records {
		if r.stage == terminated {
			out = append(out, r.pod)
		}
	}
	return out
}
