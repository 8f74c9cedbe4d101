// Package runtime runs the plugins of one profile. All extension points go
// through a single generic loop that times calls, notes which plugin answered,
// and stops at the first answer that is not Success.
package runtime

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"skiff/scheduler/framework"
	"skiff/scheduler/metrics"
)

// Factory makes a plugin from its decoded arguments (nil when it takes none).
type Factory func(args any, h framework.Handle) (framework.Plugin, error)

// Registry maps plugin names to factories. It is a value: copy and extend it to add plugins.
type Registry map[string]Factory

// Points are the names of the plugins per extension point, in order.
type Points struct {
	PreEnqueue, QueueSort, PreFilter, Filter, PostFilter, PreScore, Score, Reserve, Permit, PreBind, Bind, PostBind []string
}

// Config is what New needs.
type Config struct {
	// Profile is the scheduler name of the profile.
	Profile string
	// Points are the enabled plugins; a plugin may be named only where it implements the point.
	Points Points
	// Weights are the score weights by plugin; absent or 0 means 1.
	Weights map[string]int32
	// Args are the decoded plugin arguments by plugin.
	Args map[string]any
	// Registry makes the plugins.
	Registry Registry
	// Handle is given to the plugins, with Filterer() answered by this framework.
	Handle framework.Handle
	// Metrics may be nil.
	Metrics *metrics.Metrics
}

// Framework is a profile's set of plugins. It is immutable after New, apart from the pods that wait at Permit.
type Framework struct {
	profile string
	handle  framework.Handle
	metrics *metrics.Metrics
	weights map[string]int64
	waiting waitingPods

	preEnqueue []framework.PreEnqueuePlugin
	queueSort  []framework.QueueSortPlugin
	preFilter  []framework.PreFilterPlugin
	extensions []framework.PreFilterExtensions
	filter     []framework.FilterPlugin
	postFilter []framework.PostFilterPlugin
	preScore   []framework.PreScorePlugin
	score      []framework.ScorePlugin
	reserve    []framework.ReservePlugin
	permit     []framework.PermitPlugin
	preBind    []framework.PreBindPlugin
	bind       []framework.BindPlugin
	postBind   []framework.PostBindPlugin
	enqueue    map[string][]framework.EventHint
}

// New makes the plugins of a profile.
func New(c Config) (*Framework, error) {
	f := &Framework{profile: c.Profile, metrics: c.Metrics, weights: map[string]int64{}, enqueue: map[string][]framework.EventHint{}}
	f.waiting.pods = map[string]*waitingPod{}
	f.handle = handle{Handle: c.Handle, f: f}
	made := map[string]framework.Plugin{}
	get := func(name string) (framework.Plugin, error) {
		if p, ok := made[name]; ok {
			return p, nil
		}
		factory, ok := c.Registry[name]
		if !ok {
			return nil, fmt.Errorf("profile %q: plugin %q is not registered", c.Profile, name)
		}
		p, err := factory(c.Args[name], f.handle)
		if err != nil {
			return nil, fmt.Errorf("profile %q: initializing plugin %q: %w", c.Profile, name, err)
		}
		made[name] = p
		return p, nil
	}
	pt := c.Points
	for _, fill := range []func() error{
		fill("PreEnqueue", pt.PreEnqueue, get, &f.preEnqueue), fill("QueueSort", pt.QueueSort, get, &f.queueSort),
		fill("PreFilter", pt.PreFilter, get, &f.preFilter), fill("Filter", pt.Filter, get, &f.filter),
		fill("PostFilter", pt.PostFilter, get, &f.postFilter), fill("PreScore", pt.PreScore, get, &f.preScore),
		fill("Score", pt.Score, get, &f.score), fill("Reserve", pt.Reserve, get, &f.reserve),
		fill("Permit", pt.Permit, get, &f.permit), fill("PreBind", pt.PreBind, get, &f.preBind),
		fill("Bind", pt.Bind, get, &f.bind), fill("PostBind", pt.PostBind, get, &f.postBind),
	} {
		if err := fill(); err != nil {
			return nil, fmt.Errorf("profile %q: %w", c.Profile, err)
		}
	}
	if len(f.queueSort) != 1 {
		return nil, fmt.Errorf("profile %q: exactly one queue sort plugin is required, got %d", c.Profile, len(f.queueSort))
	}
	if len(f.bind) == 0 {
		return nil, fmt.Errorf("profile %q: at least one bind plugin is needed", c.Profile)
	}
	for _, p := range f.preFilter {
		if e, ok := p.(framework.PreFilterExtensions); ok {
			f.extensions = append(f.extensions, e)
		}
	}
	for _, p := range f.score {
		f.weights[p.Name()] = max(1, int64(c.Weights[p.Name()]))
	}
	everything := []framework.EventHint{{Event: framework.ClusterEvent{Resource: framework.WildCard, Action: framework.All}}}
	for name, p := range made {
		if e, ok := p.(framework.EnqueueExtensions); ok {
			f.enqueue[name] = e.EventsToRegister()
		} else if isRefuser(p) {
			f.enqueue[name] = everything
		}
	}
	return f, nil
}

func isRefuser(p framework.Plugin) bool {
	switch p.(type) {
	case framework.PreEnqueuePlugin, framework.PreFilterPlugin, framework.FilterPlugin, framework.ReservePlugin, framework.PermitPlugin:
		return true
	}
	return false
}

func fill[P framework.Plugin](point string, names []string, get func(string) (framework.Plugin, error), into *[]P) func() error {
	return func() error {
		for _, name := range names {
			p, err := get(name)
			if err != nil {
				return err
			}
			t, ok := p.(P)
			if !ok {
				return fmt.Errorf("plugin %q does not extend %s plugin", name, point)
			}
			*into = append(*into, t)
		}
		return nil
	}
}

// Profile is the scheduler name.
func (f *Framework) Profile() string { return f.profile }

// Less orders the queue.
func (f *Framework) Less(a, b *framework.QueuedPodInfo) bool { return f.queueSort[0].Less(a, b) }

// QueueSortName names the queue sort plugin; all profiles must agree.
func (f *Framework) QueueSortName() string { return f.queueSort[0].Name() }

// EventsToRegister are the queueing hints by plugin.
func (f *Framework) EventsToRegister() map[string][]framework.EventHint { return f.enqueue }

// HasFilters, HasPostFilters and HasScores tell whether the point has plugins.
func (f *Framework) HasFilters() bool     { return len(f.filter) > 0 }
func (f *Framework) HasPostFilters() bool { return len(f.postFilter) > 0 }
func (f *Framework) HasScores() bool      { return len(f.score) > 0 }

// ListPlugins names the plugins of a point by the point's name; for tests and logs.
func (f *Framework) ListPlugins() map[string][]string {
	return map[string][]string{
		"PreEnqueue": names(f.preEnqueue), "QueueSort": names(f.queueSort), "PreFilter": names(f.preFilter),
		"Filter": names(f.filter), "PostFilter": names(f.postFilter), "PreScore": names(f.preScore), "Score": names(f.score),
		"Reserve": names(f.reserve), "Permit": names(f.permit), "PreBind": names(f.preBind), "Bind": names(f.bind), "PostBind": names(f.postBind),
	}
}

func names[P framework.Plugin](ps []P) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.Name())
	}
	return out
}

// handle answers Filterer and RejectWaiting by the framework, the rest by the scheduler.
type handle struct {
	framework.Handle
	f *Framework
}

func (h handle) Filterer() framework.Filterer { return h.f }
func (h handle) RejectWaiting(pod *v1.Pod, plugin, msg string) bool {
	return h.f.waiting.reject(string(pod.UID), framework.NewStatus(framework.Unschedulable, msg).WithPlugin(plugin))
}

// each is the one loop over plugins. It stops at the first status that is not
// Success or Skip; onSkip is called for Skip. The call's time is observed per point.
func each[P framework.Plugin](f *Framework, point string, plugins []P, call func(P) *framework.Status, onSkip func(P)) *framework.Status {
	if len(plugins) == 0 {
		return nil
	}
	start := time.Now()
	var st *framework.Status
	for _, p := range plugins {
		s := call(p)
		if s.IsSuccess() {
			continue
		}
		if s.IsSkip() && onSkip != nil {
			onSkip(p)
			continue
		}
		st = s.WithPlugin(p.Name())
		break
	}
	f.metrics.ObservePoint(point, f.profile, st.Code().String(), time.Since(start))
	return st
}

// failed turns any status of p that is not a plain refusal into an error naming the plugin.
func failed(point string, s *framework.Status) *framework.Status {
	if s.IsSuccess() || s.IsRejected() {
		return s
	}
	return framework.AsStatus(fmt.Errorf("running %s plugin %q: %w", point, s.Plugin(), s.AsError())).WithPlugin(s.Plugin())
}

// RunPreEnqueue asks whether the pod may enter the active queue.
func (f *Framework) RunPreEnqueue(ctx context.Context, pod *v1.Pod) *framework.Status {
	for _, p := range f.preEnqueue {
		if s := p.PreEnqueue(ctx, pod); !s.IsSuccess() {
			return s.WithPlugin(p.Name())
		}
	}
	return nil
}
