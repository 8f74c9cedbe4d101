// Package stats measures the node and its pods, for /stats/summary, the
// resource metrics and eviction.
package stats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	internalapi "k8s.io/cri-api/pkg/apis"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"skiff/kubelet/cgroups"
	"skiff/kubelet/volumes"
)

// Config configures a Provider.
type Config struct {
	Runtime  internalapi.RuntimeService
	Images   internalapi.ImageManagerService
	NodeName string
	RootDir  string
	Pods     func() []*v1.Pod
	PodDir   func(types.UID) string
	LogDir   func(*v1.Pod) string
	// Volumes tells how full volumes are that the kubelet does not walk; may be nil.
	Volumes func(types.UID) []volumes.Usage
	// Cgroups may be nil.
	Cgroups    *cgroups.Manager
	CgroupRoot string
}

// Provider measures.
type Provider struct {
	cfg     Config
	started metav1.Time

	mu    sync.Mutex // guards what follows
	rates map[string]sample
	disk  map[types.UID]diskUsage
	// imageMount is a folder of the runtime's image file system; empty until it told.
	imageMount string
}

// sample is an earlier reading of a processor counter.
type sample struct {
	at    time.Time
	usage uint64
	rate  uint64
}

// diskUsageAge is how old the measured use of a pod's folders may be: a walk
// through them costs more than everything else here.
const diskUsageAge = time.Minute

// New checks the configuration.
func New(cfg Config) (*Provider, error) {
	if cfg.Runtime == nil || cfg.Images == nil || cfg.Pods == nil {
		return nil, errors.New("stats: Runtime, Images and Pods are required")
	}
	return &Provider{cfg: cfg, started: metav1.Now(), rates: map[string]sample{}, disk: map[types.UID]diskUsage{}}, nil
}

// rate turns a counter of nanoseconds into nanocores since the last reading.
func (p *Provider) rate(key string, usage uint64, at time.Time) *uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, ok := p.rates[key]
	if !ok || usage < last.usage {
		p.rates[key] = sample{at: at, usage: usage}
		return nil
	}
	elapsed := at.Sub(last.at)
	if elapsed < time.Second {
		if last.rate == 0 {
			return nil
		}
		return &last.rate
	}
	rate := uint64(float64(usage-last.usage) / elapsed.Seconds())
	p.rates[key] = sample{at: at, usage: usage, rate: rate}
	return &rate
}

// Summary is the answer of /stats/summary.
func (p *Provider) Summary(ctx context.Context, onlyCPUAndMemory bool) (*statsapi.Summary, error) {
	out := &statsapi.Summary{Node: p.node(ctx, onlyCPUAndMemory)}
	list, err := p.cfg.Runtime.ListPodSandboxStats(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list pod stats: %w", err)
	}
	for _, s := range list {
		out.Pods = append(out.Pods, p.pod(ctx, s, onlyCPUAndMemory))
	}
	return out, nil
}
