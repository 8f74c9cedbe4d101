// Package builtin lists the scheduler's own plugins, in the order in which
// they run by default.
package builtin

import (
	"skiff/scheduler/framework"
	"skiff/scheduler/framework/runtime"
	"skiff/scheduler/plugins/defaultbinder"
	"skiff/scheduler/plugins/defaultpreemption"
	"skiff/scheduler/plugins/dynamicresources"
	"skiff/scheduler/plugins/imagelocality"
	"skiff/scheduler/plugins/interpodaffinity"
	"skiff/scheduler/plugins/nodeaffinity"
	"skiff/scheduler/plugins/nodename"
	"skiff/scheduler/plugins/nodeports"
	"skiff/scheduler/plugins/noderesources"
	"skiff/scheduler/plugins/nodeunschedulable"
	"skiff/scheduler/plugins/nodevolumelimits"
	"skiff/scheduler/plugins/podtopologyspread"
	"skiff/scheduler/plugins/prioritysort"
	"skiff/scheduler/plugins/schedulinggates"
	"skiff/scheduler/plugins/tainttoleration"
	"skiff/scheduler/plugins/volumebinding"
	"skiff/scheduler/plugins/volumerestrictions"
	"skiff/scheduler/plugins/volumezone"
)

// Entry is a plugin that a configuration can name.
type Entry struct {
	Name string
	// Type is a value of the plugin's type, only asked which points it implements.
	Type    framework.Plugin
	Factory runtime.Factory
	// Weight is the default weight of its score; 0 where it does not score.
	Weight int32
}

// Entries are all plugins that are on by default, in order.
func Entries() []Entry {
	return []Entry{
		{Name: schedulinggates.Name, Type: schedulinggates.Plugin{}, Factory: schedulinggates.New},
		{Name: prioritysort.Name, Type: prioritysort.Plugin{}, Factory: prioritysort.New},
		{Name: nodeunschedulable.Name, Type: nodeunschedulable.Plugin{}, Factory: nodeunschedulable.New},
		{Name: nodename.Name, Type: nodename.Plugin{}, Factory: nodename.New},
		{Name: tainttoleration.Name, Type: tainttoleration.Plugin{}, Factory: tainttoleration.New, Weight: 3},
		{Name: nodeaffinity.Name, Type: (*nodeaffinity.Plugin)(nil), Factory: nodeaffinity.New, Weight: 2},
		{Name: nodeports.Name, Type: nodeports.Plugin{}, Factory: nodeports.New},
		{Name: noderesources.FitName, Type: (*noderesources.Fit)(nil), Factory: noderesources.NewFit, Weight: 1},
		{Name: volumerestrictions.Name, Type: (*volumerestrictions.Plugin)(nil), Factory: volumerestrictions.New},
		{Name: nodevolumelimits.Name, Type: (*nodevolumelimits.Plugin)(nil), Factory: nodevolumelimits.New},
		{Name: volumebinding.Name, Type: (*volumebinding.Plugin)(nil), Factory: volumebinding.New},
		{Name: volumezone.Name, Type: (*volumezone.Plugin)(nil), Factory: volumezone.New},
		{Name: podtopologyspread.Name, Type: (*podtopologyspread.Plugin)(nil), Factory: podtopologyspread.New, Weight: 2},
		{Name: interpodaffinity.Name, Type: (*interpodaffinity.Plugin)(nil), Factory: interpodaffinity.New, Weight: 2},
		{Name: dynamicresources.Name, Type: (*dynamicresources.Plugin)(nil), Factory: dynamicresources.New},
		{Name: defaultpreemption.Name, Type: (*defaultpreemption.Plugin)(nil), Factory: defaultpreemption.New},
		{Name: noderesources.BalancedName, Type: (*noderesources.Balanced)(nil), Factory: noderesources.NewBalanced, Weight: 1},
		{Name: imagelocality.Name, Type: (*imagelocality.Plugin)(nil), Factory: imagelocality.New, Weight: 1},
		{Name: defaultbinder.Name, Type: (*defaultbinder.Plugin)(nil), Factory: defaultbinder.New},
	}
}

// Registry maps the entries by name.
func Registry(entries []Entry) runtime.Registry {
	r := runtime.Registry{}
	for _, e := range entries {
		r[e.Name] = e.Factory
	}
	return r
}
