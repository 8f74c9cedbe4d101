package config

import (
	"fmt"
	"slices"

	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/ptr"

	"skiff/scheduler/framework"
	"skiff/scheduler/framework/runtime"
	"skiff/scheduler/plugins/builtin"
)

// point is an extension point: its set in the configuration, its list in the
// runtime, and whether a plugin implements it.
type point struct {
	name  string
	set   configv1.PluginSet
	list  *[]string
	holds func(framework.Plugin) bool
}

func is[P framework.Plugin](p framework.Plugin) bool { _, ok := p.(P); return ok }

// Points resolves a profile's plugin sets. MultiPoint plugins go to each point
// that they implement; a point's own set is laid over that: its Disabled take
// away ("*" all), its Enabled come first when they override, last when new.
func Points(p *configv1.KubeSchedulerProfile, entries []builtin.Entry) (runtime.Points, map[string]int32, error) {
	byName := map[string]builtin.Entry{}
	for _, e := range entries {
		byName[e.Name] = e
	}
	ps := ptr.Deref(p.Plugins, configv1.Plugins{})
	weights := map[string]int32{}
	multi, err := multiPoint(ps.MultiPoint, entries, weights)
	if err != nil {
		return runtime.Points{}, nil, err
	}
	var out runtime.Points
	for _, pt := range []point{
		{"preEnqueue", ps.PreEnqueue, &out.PreEnqueue, is[framework.PreEnqueuePlugin]},
		{"queueSort", ps.QueueSort, &out.QueueSort, is[framework.QueueSortPlugin]},
		{"preFilter", ps.PreFilter, &out.PreFilter, is[framework.PreFilterPlugin]},
		{"filter", ps.Filter, &out.Filter, is[framework.FilterPlugin]},
		{"postFilter", ps.PostFilter, &out.PostFilter, is[framework.PostFilterPlugin]},
		{"preScore", ps.PreScore, &out.PreScore, is[framework.PreScorePlugin]},
		{"score", ps.Score, &out.Score, is[framework.ScorePlugin]},
		{"reserve", ps.Reserve, &out.Reserve, is[framework.ReservePlugin]},
		{"permit", ps.Permit, &out.Permit, is[framework.PermitPlugin]},
		{"preBind", ps.PreBind, &out.PreBind, is[framework.PreBindPlugin]},
		{"bind", ps.Bind, &out.Bind, is[framework.BindPlugin]},
		{"postBind", ps.PostBind, &out.PostBind, is[framework.PostBindPlugin]},
	} {
		if err := resolve(pt, multi, byName, weights); err != nil {
			return runtime.Points{}, nil, err
		}
	}
	return out, weights, nil
}

// multiPoint is the default list with the profile's set laid over it.
func multiPoint(set configv1.PluginSet, entries []builtin.Entry, weights map[string]int32) ([]string, error) {
	off := func(name string) bool {
		return slices.ContainsFunc(set.Disabled, func(d configv1.Plugin) bool { return d.Name == "*" || d.Name == name })
	}
	var out []string
	for _, e := range entries {
		if off(e.Name) {
			continue
		}
		weights[e.Name] = e.Weight
		out = append(out, e.Name)
	}
	for _, e := range set.Enabled {
		known := slices.IndexFunc(entries, func(x builtin.Entry) bool { return x.Name == e.Name })
		if known < 0 {
			return nil, fmt.Errorf("plugins.multiPoint.enabled: plugin %q is not registered", e.Name)
		}
		weights[e.Name] = ptr.Deref(e.Weight, entries[known].Weight)
		if !slices.Contains(out, e.Name) {
			out = append(out, e.Name)
		}
	}
	return out, nil
}

func resolve(pt point, multi []string, byName map[string]builtin.Entry, weights map[string]int32) error {
	off := func(name string) bool {
		return slices.ContainsFunc(pt.set.Disabled, func(d configv1.Plugin) bool { return d.Name == "*" || d.Name == name })
	}
	var own, overridden []string
	for _, e := range pt.set.Enabled {
		entry, ok := byName[e.Name]
		if !ok {
			return fmt.Errorf("plugins.%s.enabled: plugin %q is not registered", pt.name, e.Name)
		}
		if !pt.holds(entry.Type) {
			return fmt.Errorf("plugins.%s.enabled: plugin %q does not extend %s plugin", pt.name, e.Name, pt.name)
		}
		if slices.Contains(own, e.Name) || slices.Contains(overridden, e.Name) {
			return fmt.Errorf("plugins.%s.enabled: plugin %q already registered", pt.name, e.Name)
		}
		if pt.name == "score" {
			weights[e.Name] = ptr.Deref(e.Weight, max(1, entry.Weight))
		}
		if slices.Contains(multi, e.Name) && !off(e.Name) {
			overridden = append(overridden, e.Name)
		} else {
			own = append(own, e.Name)
		}
	}
	out := slices.Clone(overridden)
	for _, name := range multi {
		if pt.holds(byName[name].Type) && !off(name) && !slices.Contains(overridden, name) {
			out = append(out, name)
		}
	}
	*pt.list = append(out, own...)
	return nil
}
