// Package probes runs the startup, liveness and readiness probes of running
// containers. One goroutine keeps the timetable of all probes; a run has a
// goroutine of its own only while it lasts.
package probes

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/utils/clock"

	"skiff/kubelet/containers"
)

// Kind of a probe.
type Kind string

// The kinds, named as in events and metrics.
const (
	Startup   Kind = "Startup"
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
)

// Config configures a Manager.
type Config struct {
	Runtime  internalapi.RuntimeService
	Recorder record.EventRecorder
	// Notify is told of pods whose verdicts changed. It must not block.
	Notify func(types.UID)
	Clock  clock.Clock
	// Parallel bounds the runs at one time. Default 64.
	Parallel int
}

// Manager runs probes.
type Manager struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex // guards what follows
	targets map[targetKey]*target
	// running is the identifier of each container that runs now.
	running map[containerKey]running
	due     timetable
	counts  map[Count]float64
}

// Count names a counter of probe results.
type Count struct {
	Kind                              Kind
	Result, Container, Pod, Namespace string
	UID                               types.UID
}

type containerKey struct {
	uid  types.UID
	name string
}

type targetKey struct {
	containerKey
	kind Kind
}

type running struct {
	id, podIP string
	startedAt time.Time
}

// target is one probe of one container.
type target struct {
	key       targetKey
	pod       *v1.Pod
	container *v1.Container
	probe     *v1.Probe

	id      string
	verdict containers.Verdict
	last    outcome
	streak  int32
	onHold  bool
	next    time.Time
	index   int
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Runtime == nil || cfg.Recorder == nil || cfg.Notify == nil {
		return nil, errors.New("probes: Runtime, Recorder and Notify are required")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 64
	}
	return &Manager{cfg: cfg, wake: make(chan struct{}, 1), targets: map[targetKey]*target{}, running: map[containerKey]running{}, counts: map[Count]float64{}}, nil
}

// Container says that a container of the pod runs, since when and where it is
// reached. It starts the container's probes, or restarts them for a new
// instance. adopted containers were ready before the kubelet started.
func (m *Manager) Container(pod *v1.Pod, c *v1.Container, id, podIP string, startedAt time.Time, adopted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ck := containerKey{pod.UID, c.Name}
	before, known := m.running[ck]
	m.running[ck] = running{id, podIP, startedAt}
	if known && before.id == id {
		return
	}
	for kind, p := range map[Kind]*v1.Probe{Startup: c.StartupProbe, Liveness: c.LivenessProbe, Readiness: c.ReadinessProbe} {
		key := targetKey{ck, kind}
		if old := m.targets[key]; old != nil {
			m.drop(old)
		}
		if p == nil {
			continue
		}
		t := &target{key: key, pod: pod, container: c, probe: p, id: id, index: -1, verdict: initial(kind)}
		if adopted && kind != Liveness {
			t.verdict = containers.VerdictSuccess
		}
		m.targets[key] = t
		now := m.cfg.Clock.Now()
		first := startedAt.Add(time.Duration(p.InitialDelaySeconds) * time.Second)
		if first.Before(now) {
			first = now
			if adopted {
				// Spread the runs of a kubelet that finds many containers.
				first = now.Add(rand.N(period(p)))
			}
		}
		m.schedule(t, first)
	}
}

func initial(kind Kind) containers.Verdict {
	switch kind {
	case Liveness:
		return containers.VerdictSuccess
	case Readiness:
		return containers.VerdictFailure
	}
	return containers.VerdictUnknown
}

func period(p *v1.Probe) time.Duration {
	if p.PeriodSeconds <= 0 {
		return 10 * time.Second
	}
	return time.Duration(p.PeriodSeconds) * time.Second
}

// Stopped ends the probes of a container that does not run any more.
func (m *Manager) Stopped(uid types.UID, container, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ck := containerKey{uid, container}
	if r, ok := m.running[ck]; !ok || id != "" && r.id != id {
		return
	}
	delete(m.running, ck)
	for _, kind := range []Kind{Startup, Liveness, Readiness} {
		if t := m.targets[targetKey{ck, kind}]; t != nil {
			m.drop(t)
		}
	}
}

// StopLiveness ends liveness and startup probes of a pod that is ending;
// readiness goes on, so that the pod's endpoints stay true.
func (m *Manager) StopLiveness(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, t := range m.targets {
		if key.uid == uid && key.kind != Readiness {
			m.drop(t)
		}
	}
}

// Forget ends all probes of a pod.
func (m *Manager) Forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, t := range m.targets {
		if key.uid == uid {
			m.drop(t)
		}
	}
	for ck := range m.running {
		if ck.uid == uid {
			delete(m.running, ck)
		}
	}
	for c := range m.counts {
		if c.UID == uid {
			delete(m.counts, c)
		}
	}
}

// drop removes a target. Caller holds mu.
func (m *Manager) drop(t *target) {
	delete(m.targets, t.key)
	if t.index >= 0 {
		heap.Remove(&m.due, t.index)
	}
}

// schedule puts a target on the timetable. Caller holds mu.
func (m *Manager) schedule(t *target, at time.Time) {
	t.next = at
	if t.index >= 0 {
		heap.Fix(&m.due, t.index)
	} else {
		heap.Push(&m.due, t)
	}
	if m.due[0] == t {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

func (m *Manager) byID(kind Kind, id string) containers.Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, t := range m.targets {
		if key.kind == kind && t.id == id {
			return t.verdict
		}
	}
	if kind == Startup {
		// No startup probe, or it is over: the container counts as started.
		for _, r := range m.running {
			if r.id == id {
				return containers.VerdictSuccess
			}
		}
	}
	return containers.VerdictUnknown
}

// Liveness implements containers.Probes.
func (m *Manager) Liveness(id string) containers.Verdict { return m.byID(Liveness, id) }

// Startup implements containers.Probes.
func (m *Manager) Startup(id string) containers.Verdict { return m.byID(Startup, id) }

// Started implements status.Probes.
func (m *Manager) Started(pod *v1.Pod, c *v1.Container, id string) bool {
	if c.StartupProbe == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.targets[targetKey{containerKey{pod.UID, c.Name}, Startup}]
	return t != nil && t.id == id && t.verdict == containers.VerdictSuccess
}

// Ready implements status.Probes.
func (m *Manager) Ready(pod *v1.Pod, c *v1.Container, id string) bool {
	if c.ReadinessProbe == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.targets[targetKey{containerKey{pod.UID, c.Name}, Readiness}]
	return t != nil && t.id == id && t.verdict == containers.VerdictSuccess
}

// Counts returns the counters of results.
func (m *Manager) Counts() map[Count]float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[Count]float64, len(m.counts))
	for k, v := range m.counts {
		out[k] = v
	}
	return out
}

// Run keeps the timetable until the context ends.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, m.cfg.Parallel)
	for {
		t, wait := m.take()
		if t != nil {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			wg.Go(func() {
				defer func() { <-slots }()
				m.probe(ctx, t)
			})
			continue
		}
		timer := m.cfg.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-m.wake:
		case <-timer.C():
		}
		timer.Stop()
	}
}

// take returns the next target that is due, or how long to wait for one.
func (m *Manager) take() (*target, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.due) == 0 {
		return nil, time.Hour
	}
	t := m.due[0]
	if wait := t.next.Sub(m.cfg.Clock.Now()); wait > 0 {
		return nil, wait
	}
	heap.Pop(&m.due)
	return t, 0
}

// probe runs a target once, with up to three tries, and plans its next run.
func (m *Manager) probe(ctx context.Context, t *target) {
	m.mu.Lock()
	r, runs := m.running[t.key.containerKey]
	started := true
	if s := m.targets[targetKey{t.key.containerKey, Startup}]; s != nil {
		started = s.verdict == containers.VerdictSuccess
	}
	alive := m.targets[t.key] == t && runs && r.id == t.id
	// Liveness and readiness wait for startup; startup ends with its success.
	idle := t.onHold || t.key.kind == Startup && started || t.key.kind != Startup && !started
	m.mu.Unlock()
	if !alive {
		return
	}
	if idle {
		if t.key.kind == Startup || t.onHold {
			return
		}
		m.again(t)
		return
	}
	var (
		result outcome
		output string
		err    error
	)
	for range 3 {
		if result, output, err = m.runOnce(ctx, t, t.probe, t.id, r.podIP); err == nil {
			break
		}
	}
	if ctx.Err() != nil {
		return
	}
	if reason, text := told(t.key.kind, result, output, err); reason != "" {
		m.cfg.Recorder.Event(containers.ContainerRef(t.pod, t.container.Name), v1.EventTypeWarning, reason, text)
	}
	switch {
	case err != nil:
		result = failure
	case result == warning:
		result = success
	}
	m.judge(t, result)
}

// told is the event of a probe's outcome; a success has none.
func told(kind Kind, result outcome, output string, err error) (reason, text string) {
	switch {
	case err != nil:
		return "Unhealthy", fmt.Sprintf("%s probe errored and resulted in %s state: %v", kind, result, err)
	case result == warning:
		return "ProbeWarning", fmt.Sprintf("%s probe warning: %s", kind, output)
	case result == failure:
		return "Unhealthy", fmt.Sprintf("%s probe failed: %s", kind, output)
	}
	return "", ""
}

// judge notes a result and changes the verdict when the thresholds say so.
func (m *Manager) judge(t *target, result outcome) {
	m.mu.Lock()
	if m.targets[t.key] != t {
		m.mu.Unlock()
		return
	}
	name := "successful"
	if result == failure {
		name = "failed"
	}
	m.counts[Count{t.key.kind, name, t.container.Name, t.pod.Name, t.pod.Namespace, t.pod.UID}]++
	if t.streak > 0 && t.last == result {
		t.streak++
	} else {
		t.last, t.streak = result, 1
	}
	changed := false
	switch {
	case result == failure && t.streak >= max(t.probe.FailureThreshold, 1):
		changed = t.verdict != containers.VerdictFailure
		t.verdict = containers.VerdictFailure
		// The container is about to be killed: probing it is of no use, and a
		// run of successes must not save it half-way.
		t.onHold = t.key.kind != Readiness
	case result == success && t.streak >= max(t.probe.SuccessThreshold, 1):
		changed = t.verdict != containers.VerdictSuccess
		t.verdict = containers.VerdictSuccess
	}
	startedUp := t.key.kind == Startup && t.verdict == containers.VerdictSuccess
	if startedUp && changed {
		// Readiness and liveness need not wait out their period.
		for _, kind := range []Kind{Readiness, Liveness} {
			if other := m.targets[targetKey{t.key.containerKey, kind}]; other != nil {
				m.schedule(other, m.cfg.Clock.Now())
			}
		}
	}
	if !t.onHold && !startedUp {
		m.schedule(t, m.cfg.Clock.Now().Add(period(t.probe)))
	}
	m.mu.Unlock()
	if changed {
		m.cfg.Notify(t.key.uid)
	}
}

func (m *Manager) again(t *target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.targets[t.key] == t {
		m.schedule(t, m.cfg.Clock.Now().Add(period(t.probe)))
	}
}

// timetable is a heap of targets by their next run.
type timetable []*target

func (h timetable) Len() int           { return len(h) }
func (h timetable) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
func (h timetable) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timetable) Push(x any) { t := x.(*target); t.index = len(*h); *h = append(*h, t) }
func (h *timetable) Pop() any {
	old := *h
	t := old[len(old)-1]
	t.index = -1
	*h = old[:len(old)-1]
	return t
}
