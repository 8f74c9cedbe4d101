// Package eviction keeps the node alive when memory, disk or process
// identifiers run short, by ending the pods that matter least.
package eviction

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"skiff/kubelet/nodestatus"
	"skiff/kubelet/resources"
)

// Signal names a measured quantity.
type Signal string

// The signals, as in KubeletConfiguration.
const (
	MemoryAvailable   Signal = "memory.available"
	NodeFsAvailable   Signal = "nodefs.available"
	NodeFsInodesFree  Signal = "nodefs.inodesFree"
	ImageFsAvailable  Signal = "imagefs.available"
	ImageFsInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Observation is one measurement.
type Observation struct{ Available, Capacity int64 }

// Usage is what a pod uses.
type Usage struct {
	Memory, Disk, Inodes, Processes int64
	// Volumes and Containers are bytes on disk, Memories those of memory, by name.
	Volumes, Containers, Memories map[string]int64
}

// Config configures a Manager.
type Config struct {
	Hard, Soft, SoftGrace, MinimumReclaim map[string]string
	MaxPodGrace                           int64
	Transition                            time.Duration
	Observe                               func(context.Context) map[Signal]Observation
	Usage                                 func(context.Context) map[types.UID]Usage
	Pods                                  func() []*v1.Pod
	// Evict ends a pod as failed; the channel closes when it has ended.
	Evict func(pod *v1.Pod, message string, grace int64) <-chan struct{}
	// Reclaim frees disk without ending pods.
	Reclaim func(context.Context) error
	// Met, when set, is told that a threshold is met and what is to be reclaimed.
	Met func(name v1.ResourceName)
	// Evicted, when set, is told by which signal a pod was evicted, and how old the
	// measurement was; 0 is for a limit of the pod itself.
	Evicted func(signal string, age time.Duration)
	// Changed is told when a condition of pressure changes.
	Changed func()
	// Interval between looks. Default 10 s.
	Interval time.Duration
}

// threshold is one limit.
type threshold struct {
	signal  Signal
	text    string
	grace   time.Duration
	reclaim string
	soft    bool
}

// Manager watches the signals.
type Manager struct {
	cfg        Config
	thresholds []threshold

	mu sync.Mutex // guards what follows
	// crossed is since when a threshold is crossed; acting those that are acted
	// on, until also their minimum is reclaimed; lastMet when a condition was last
	// true.
	crossed map[int]time.Time
	acting  map[int]bool
	lastMet map[v1.NodeConditionType]time.Time
	on      map[v1.NodeConditionType]bool
}

// New reads the thresholds.
func New(cfg Config) (*Manager, error) {
	if cfg.Observe == nil || cfg.Usage == nil || cfg.Pods == nil || cfg.Evict == nil {
		return nil, errors.New("eviction: Observe, Usage, Pods and Evict are required")
	}
	if cfg.Interval == 0 {
		cfg.Interval = 10 * time.Second
	}
	m := &Manager{cfg: cfg, crossed: map[int]time.Time{}, acting: map[int]bool{}, lastMet: map[v1.NodeConditionType]time.Time{}, on: map[v1.NodeConditionType]bool{}}
	add := func(limits map[string]string, soft bool) error {
		for signal, text := range limits {
			if _, ok := conditionOf(Signal(signal)); !ok {
				return fmt.Errorf("eviction: unsupported eviction signal %v", signal)
			}
			if _, err := nodestatus.Threshold(text, 1<<40); err != nil {
				return fmt.Errorf("eviction: threshold %s=%q: %w", signal, text, err)
			}
			t := threshold{signal: Signal(signal), text: text, reclaim: cfg.MinimumReclaim[signal], soft: soft}
			if t.reclaim == "" {
				t.reclaim = "0"
			}
			if _, err := nodestatus.Threshold(t.reclaim, 1<<40); err != nil {
				return fmt.Errorf("eviction: minimum reclaim %s=%q: %w", signal, t.reclaim, err)
			}
			if soft {
				grace, err := time.ParseDuration(cfg.SoftGrace[signal])
				if err != nil {
					return fmt.Errorf("eviction: grace period must be specified for the soft eviction threshold %v: %w", signal, err)
				}
				t.grace = grace
			}
			m.thresholds = append(m.thresholds, t)
		}
		return nil
	}
	if err := errors.Join(add(cfg.Hard, false), add(cfg.Soft, true)); err != nil {
		return nil, err
	}
	// Memory first: it is what kills the node fastest.
	sort.Slice(m.thresholds, func(i, j int) bool {
		a, b := m.thresholds[i], m.thresholds[j]
		if (a.signal == MemoryAvailable) != (b.signal == MemoryAvailable) {
			return a.signal == MemoryAvailable
		}
		return a.signal < b.signal
	})
	return m, nil
}

func conditionOf(s Signal) (v1.NodeConditionType, bool) {
	switch s {
	case MemoryAvailable:
		return v1.NodeMemoryPressure, true
	case NodeFsAvailable, NodeFsInodesFree, ImageFsAvailable, ImageFsInodesFree, "containerfs.available", "containerfs.inodesFree":
		return v1.NodeDiskPressure, true
	case PIDAvailable:
		return v1.NodePIDPressure, true
	}
	return "", false
}

func resourceOf(s Signal) v1.ResourceName {
	switch s {
	case MemoryAvailable:
		return v1.ResourceMemory
	case NodeFsInodesFree, ImageFsInodesFree, "containerfs.inodesFree":
		return "inodes"
	case PIDAvailable:
		return "pids"
	}
	return v1.ResourceEphemeralStorage
}

// Pressure is the node's conditions.
func (m *Manager) Pressure() (memory, disk, pid bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on[v1.NodeMemoryPressure], m.on[v1.NodeDiskPressure], m.on[v1.NodePIDPressure]
}

// Run looks at the signals until the context ends.
func (m *Manager) Run(ctx context.Context) error {
	ticker := time.NewTicker(m.cfg.Interval)
	defer ticker.Stop()
	for {
		m.look(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look measures, sets the conditions and evicts at most one pod.
func (m *Manager) look(ctx context.Context, now time.Time) {
	observed := m.cfg.Observe(ctx)
	met := m.judge(observed, now)
	if pod, signal, message := m.overLimits(ctx); pod != nil {
		m.evict(ctx, pod, message, 0)
		m.evicted(signal, 0)
		return
	}
	if len(met) == 0 {
		return
	}
	t := met[0]
	klog.FromContext(ctx).Info("Eviction manager: attempting to reclaim", "resourceName", resourceOf(t.signal))
	if m.cfg.Met != nil {
		m.cfg.Met(resourceOf(t.signal))
	}
	if c, _ := conditionOf(t.signal); c == v1.NodeDiskPressure && m.cfg.Reclaim != nil {
		if err := m.cfg.Reclaim(ctx); err != nil {
			klog.FromContext(ctx).Info("Eviction manager: unexpected error when attempting to reduce resource pressure", "resourceName", resourceOf(t.signal), "err", err)
		}
		again := m.cfg.Observe(ctx)
		if o := again[t.signal]; !below(t, o, true) {
			return
		}
	}
	usage := m.cfg.Usage(ctx)
	ranked := Rank(m.cfg.Pods(), usage, resourceOf(t.signal))
	for _, pod := range ranked {
		if resources.IsCritical(pod) {
			continue
		}
		grace := int64(0)
		if t.soft {
			grace = m.cfg.MaxPodGrace
		} else {
			grace = 1
		}
		age := time.Since(now)
		m.evict(ctx, pod, message(t, observed[t.signal], pod, usage[pod.UID]), grace)
		m.evicted(string(t.signal), max(age, 1))
		return
	}
}

// below tells whether less is available than the threshold says, or, when it is
// acted on already, than it and the least that is to be reclaimed.
func below(t threshold, o Observation, acting bool) bool {
	if o.Capacity == 0 {
		return false
	}
	limit, err := nodestatus.Threshold(t.text, o.Capacity)
	if err != nil {
		return false
	}
	if more, err := nodestatus.Threshold(t.reclaim, o.Capacity); acting && err == nil {
		limit += more
	}
	return o.Available < limit
}

// judge updates the conditions and returns the thresholds to act on.
func (m *Manager) judge(observed map[Signal]Observation, now time.Time) []threshold {
	m.mu.Lock()
	var act []threshold
	for i, t := range m.thresholds {
		if !below(t, observed[t.signal], m.acting[i]) {
			delete(m.crossed, i)
			delete(m.acting, i)
			continue
		}
		if m.crossed[i].IsZero() {
			m.crossed[i] = now
		}
		condition, _ := conditionOf(t.signal)
		m.lastMet[condition] = now
		if now.Sub(m.crossed[i]) >= t.grace {
			m.acting[i] = true
			act = append(act, t)
		}
	}
	changed := false
	for _, c := range []v1.NodeConditionType{v1.NodeMemoryPressure, v1.NodeDiskPressure, v1.NodePIDPressure} {
		last := m.lastMet[c]
		// A condition stays for a while, so that it does not flap.
		on := !last.IsZero() && (last.Equal(now) || now.Sub(last) < m.cfg.Transition)
		if on != m.on[c] {
			m.on[c], changed = on, true
		}
	}
	m.mu.Unlock()
	if changed && m.cfg.Changed != nil {
		m.cfg.Changed()
	}
	return act
}

func (m *Manager) evict(ctx context.Context, pod *v1.Pod, message string, grace int64) {
	done := m.cfg.Evict(pod, message, grace)
	timer := time.NewTimer(30*time.Second + time.Duration(grace)*time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (m *Manager) evicted(signal string, age time.Duration) {
	if m.cfg.Evicted != nil {
		m.cfg.Evicted(signal, age)
	}
}

// Rank orders pods, the first to be evicted first: those that use more than
// they asked for, then by priority, then by how much more.
func Rank(pods []*v1.Pod, usage map[types.UID]Usage, name v1.ResourceName) []*v1.Pod {
	out := append([]*v1.Pod(nil), pods...)
	over := func(p *v1.Pod) int64 { return used(usage[p.UID], name) - requested(p, name) }
	priority := func(p *v1.Pod) int32 {
		if p.Spec.Priority == nil {
			return 0
		}
		return *p.Spec.Priority
	}
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if name == v1.ResourceMemory || name == v1.ResourceEphemeralStorage {
			if x, y := over(a) > 0, over(b) > 0; x != y {
				return x
			}
		}
		if x, y := priority(a), priority(b); x != y {
			return x < y
		}
		return over(a) > over(b)
	})
	return out
}

func used(u Usage, name v1.ResourceName) int64 {
	switch name {
	case v1.ResourceMemory:
		return u.Memory
	case v1.ResourceEphemeralStorage:
		return u.Disk
	case "inodes":
		return u.Inodes
	}
	return u.Processes
}

func requested(pod *v1.Pod, name v1.ResourceName) int64 {
	if name != v1.ResourceMemory && name != v1.ResourceEphemeralStorage {
		return 0
	}
	q := resources.Requests(pod)[name]
	return q.Value()
}

func message(t threshold, o Observation, pod *v1.Pod, u Usage) string {
	name := resourceOf(t.signal)
	limit, _ := nodestatus.Threshold(t.text, o.Capacity)
	format := func(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }
	out := fmt.Sprintf("The node was low on resource: %v. Threshold quantity: %s, available: %s. ", name, format(limit), format(o.Available))
	if name == v1.ResourceMemory || name == v1.ResourceEphemeralStorage {
		for i := range pod.Spec.Containers {
			c := &pod.Spec.Containers[i]
			request := c.Resources.Requests[name]
			n := u.Containers[c.Name]
			if name == v1.ResourceMemory {
				n = u.Memories[c.Name]
			}
			if n > request.Value() {
				out += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %v. ", c.Name, format(n), request.String(), name)
			}
		}
	}
	return out
}

// The signals of limits that pods set themselves.
const (
	emptyDirLimit  = "emptydirfs.limit"
	containerLimit = "ephemeralcontainerfs.limit"
	podLimit       = "ephemeralpodfs.limit"
)

// overLimits finds a pod that holds more on disk than its own limits allow.
func (m *Manager) overLimits(ctx context.Context) (pod *v1.Pod, signal, message string) {
	var limited []*v1.Pod
	for _, pod := range m.cfg.Pods() {
		if hasDiskLimit(pod) {
			limited = append(limited, pod)
		}
	}
	if len(limited) == 0 {
		return nil, "", ""
	}
	usage := m.cfg.Usage(ctx)
	for _, pod := range limited {
		if signal, text := diskExcess(pod, usage[pod.UID]); text != "" {
			return pod, signal, text
		}
	}
	return nil, "", ""
}

func hasDiskLimit(pod *v1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if e := pod.Spec.Volumes[i].EmptyDir; e != nil && e.Medium == v1.StorageMediumDefault && e.SizeLimit != nil && e.SizeLimit.Value() > 0 {
			return true
		}
	}
	for i := range pod.Spec.Containers {
		if q, ok := pod.Spec.Containers[i].Resources.Limits[v1.ResourceEphemeralStorage]; ok && !q.IsZero() {
			return true
		}
	}
	return false
}

func diskExcess(pod *v1.Pod, u Usage) (signal, text string) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.Medium != v1.StorageMediumDefault || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Value() <= 0 {
			continue
		}
		if u.Volumes[v.Name] > v.EmptyDir.SizeLimit.Value() {
			return emptyDirLimit, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	var sum int64
	all := true
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		q, ok := c.Resources.Limits[v1.ResourceEphemeralStorage]
		if !ok || q.IsZero() {
			all = false
			continue
		}
		sum += q.Value()
		if u.Containers[c.Name] > q.Value() {
			return containerLimit, fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, q.String())
		}
	}
	if all && sum > 0 && u.Disk > sum {
		return podLimit, fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", resource.NewQuantity(sum, resource.BinarySI))
	}
	return "", ""
}
