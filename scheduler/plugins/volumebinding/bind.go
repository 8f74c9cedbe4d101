package volumebinding

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/storage/volume"

	"skiff/scheduler/framework"
)

func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	return metav1.LabelSelectorAsSelector(s)
}

func (s *claims) planFor(node string) (plan, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pl, ok := s.plans[node]
	return pl, ok && len(pl.bind)+len(pl.provision) > 0
}

// Reserve keeps the chosen volumes from other pods.
func (p *Plugin) Reserve(_ context.Context, state *framework.CycleState, _ *v1.Pod, node string) *framework.Status {
	s, ok := framework.Read(state, stateKey)
	if !ok {
		return nil
	}
	pl, ok := s.planFor(node)
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for pv := range pl.bind {
		if _, held := p.taken[pv]; held {
			return framework.AsStatus(fmt.Errorf("persistent volume %q was given to another pod meanwhile", pv))
		}
	}
	for pv, c := range pl.bind {
		p.taken[pv] = c
	}
	return nil
}

// Unreserve gives them back.
func (p *Plugin) Unreserve(_ context.Context, state *framework.CycleState, _ *v1.Pod, node string) {
	if s, ok := framework.Read(state, stateKey); ok {
		if pl, ok := s.planFor(node); ok {
			p.release(pl)
		}
	}
}

func (p *Plugin) release(pl plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pv, c := range pl.bind {
		if held := p.taken[pv]; held != nil && held.UID == c.UID {
			delete(p.taken, pv)
		}
	}
}

// PreBindPreFlight: nothing is to be done when all claims are bound.
func (p *Plugin) PreBindPreFlight(_ context.Context, state *framework.CycleState, _ *v1.Pod, node string) *framework.Status {
	if s, ok := framework.Read(state, stateKey); ok {
		if _, ok := s.planFor(node); ok {
			return nil
		}
	}
	return framework.NewStatus(framework.Skip)
}

// PreBind writes the choice and waits until the volume controller has bound all claims.
func (p *Plugin) PreBind(ctx context.Context, state *framework.CycleState, pod *v1.Pod, node string) *framework.Status {
	s, ok := framework.Read(state, stateKey)
	if !ok {
		return nil
	}
	pl, ok := s.planFor(node)
	if !ok {
		return nil
	}
	if err := p.write(ctx, pl, node); err != nil {
		return framework.AsStatus(err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if err := p.wait(ctx, pl, node); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, fmt.Sprintf("binding volumes: %v", err))
		}
		return framework.AsStatus(fmt.Errorf("binding volumes: %w", err))
	}
	// The binding is in the API, which shows the volume as taken from here on.
	p.release(pl)
	return nil
}

func (p *Plugin) write(ctx context.Context, pl plan, node string) error {
	for name, c := range pl.bind {
		pv, err := p.informers().Core().V1().PersistentVolumes().Lister().Get(name)
		if err != nil {
			return err
		}
		next, dirty, err := volume.GetBindVolumeToClaim(pv, c)
		if err != nil {
			return err
		}
		if dirty {
			if _, err := p.handle.Client().CoreV1().PersistentVolumes().Update(ctx, next, metav1.UpdateOptions{}); err != nil {
				return fmt.Errorf("binding persistent volume %q to claim %q: %w", name, c.Name, err)
			}
		}
	}
	for _, c := range pl.provision {
		if c.Annotations[volume.AnnSelectedNode] == node {
			continue
		}
		next := c.DeepCopy()
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, volume.AnnSelectedNode, node)
		if _, err := p.handle.Client().CoreV1().PersistentVolumeClaims(c.Namespace).Update(ctx, next, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("selecting node %q for claim %q: %w", node, c.Name, err)
		}
	}
	return nil
}

// wait returns when all claims of the plan are bound.
func (p *Plugin) wait(ctx context.Context, pl plan, node string) error {
	want := append([]*v1.PersistentVolumeClaim(nil), pl.provision...)
	for _, c := range pl.bind {
		want = append(want, c)
	}
	selected := map[string]bool{}
	// The claims' lister may be behind our own write: a missing annotation
	// means a refused provisioning only after it was seen, or after a while.
	grace := time.NewTimer(10 * time.Second)
	defer grace.Stop()
	late := false
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		open := 0
		for _, c := range want {
			now, err := p.informers().Core().V1().PersistentVolumeClaims().Lister().PersistentVolumeClaims(c.Namespace).Get(c.Name)
			if apierrors.IsNotFound(err) || (err == nil && now.UID != c.UID) {
				return fmt.Errorf("persistentvolumeclaim %q was deleted", c.Name)
			}
			if err != nil {
				return err
			}
			if isBound(now) {
				continue
			}
			open++
			if _, binds := boundTo(pl, c); binds {
				continue
			}
			switch chosen := now.Annotations[volume.AnnSelectedNode]; {
			case chosen == node:
				selected[c.Name] = true
			case chosen == "" && (selected[c.Name] || late):
				return fmt.Errorf("provisioning failed for PVC %q", c.Name)
			case chosen != "":
				return fmt.Errorf("persistentvolumeclaim %q was given to node %q meanwhile", c.Name, chosen)
			}
		}
		if open == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grace.C:
			late = true
		case <-changed:
		}
	}
}

func boundTo(pl plan, c *v1.PersistentVolumeClaim) (string, bool) {
	for pv, o := range pl.bind {
		if o.UID == c.UID {
			return pv, true
		}
	}
	return "", false
}
