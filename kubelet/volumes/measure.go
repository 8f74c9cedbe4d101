package volumes

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"skiff/kubelet/volumes/volume"
)

const (
	// measureEvery is how old a volume's figures get: a driver is asked for them.
	measureEvery = time.Minute
	// measureTime bounds one question, measureAtOnce how many are open.
	measureTime   = 10 * time.Second
	measureAtOnce = 8
)

// Usage is how full one of a pod's volumes is.
type Usage struct {
	volume.Usage
	// Volume is its name in the pod; Claim its claim's, "" for none.
	Volume, Claim string
}

// Usage tells how full those of the pod's volumes are whose kind can tell.
func (m *Manager) Usage(uid types.UID) []Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.usage[uid]
}

// Run measures volumes until the context ends. Nobody waits for a driver that
// does not answer.
func (m *Manager) Run(ctx context.Context) error {
	ticker := time.NewTicker(measureEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.fresh:
			m.measure(ctx, false)
		case <-ticker.C:
			m.measure(ctx, true)
		}
	}
}

// measure asks for all volumes, or those of pods that were not measured yet.
func (m *Manager) measure(ctx context.Context, all bool) {
	m.mu.Lock()
	pods := map[types.UID][]ready{}
	for uid, volumes := range m.ready {
		if _, done := m.usage[uid]; all || !done {
			pods[uid] = slices.SortedFunc(maps.Values(volumes), func(a, b ready) int { return cmp.Compare(a.request.Volume.Name, b.request.Volume.Name) })
		}
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, measureAtOnce)
	for uid, volumes := range pods {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			got := measurePod(ctx, volumes)
			m.mu.Lock()
			defer m.mu.Unlock()
			if _, there := m.ready[uid]; there {
				m.usage[uid] = got
			}
		})
	}
}

func measurePod(ctx context.Context, volumes []ready) []Usage {
	var out []Usage
	for _, v := range volumes {
		plugin, ok := v.plugin.(volume.Measurer)
		if !ok {
			continue
		}
		asked, cancel := context.WithTimeout(ctx, measureTime)
		got, err := plugin.Measure(asked, v.request)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				klog.FromContext(ctx).V(2).Info("Measuring a volume failed", "pod", klog.KObj(v.request.Pod), "volume", v.request.Volume.Name, "err", err)
			}
			continue
		}
		if got == nil {
			continue
		}
		u := Usage{Usage: *got, Volume: v.request.Volume.Name}
		if v.request.PVC != nil {
			u.Claim = v.request.PVC.Name
		}
		out = append(out, u)
	}
	return out
}

// noteFresh lets volumes that are ready for the first time be measured.
func (m *Manager) noteFresh(uid types.UID, volumes map[string]ready) {
	m.mu.Lock()
	_, done := m.usage[uid]
	m.mu.Unlock()
	if done {
		return
	}
	for _, v := range volumes {
		if _, ok := v.plugin.(volume.Measurer); ok {
			select {
			case m.fresh <- struct{}{}:
			default:
			}
			return
		}
	}
}
