package framework

import "maps"

// StateKey names a value of type T in a CycleState. Declare one per value:
//
//	var preFilterKey = framework.NewStateKey[*state]("PreFilterNodePorts")
type StateKey[T any] struct{ name string }

// NewStateKey makes a key. Names are unique among plugins by prefixing them with the plugin's.
func NewStateKey[T any](name string) StateKey[T] { return StateKey[T]{name: name} }

// Cloner is implemented by state values that AddPod and RemovePod change, so
// that a dry run works on its own copy. Other values are shared by clones.
type Cloner interface{ CloneState() any }

// CycleState carries what plugins computed for one pod through one scheduling
// cycle. It is written at the sequential points (PreFilter, PreScore, Reserve
// and later) and only read by the parallel ones (Filter, Score), hence no lock.
type CycleState struct {
	values     map[string]any
	skipFilter map[string]struct{}
	skipScore  map[string]struct{}
}

// NewCycleState makes an empty state.
func NewCycleState() *CycleState { return &CycleState{values: make(map[string]any, 8)} }

// Write stores v under key.
func Write[T any](s *CycleState, key StateKey[T], v T) { s.values[key.name] = v }

// Read finds the value under key.
func Read[T any](s *CycleState, key StateKey[T]) (T, bool) {
	v, ok := s.values[key.name].(T)
	return v, ok
}

// Drop removes the value under key.
func Drop[T any](s *CycleState, key StateKey[T]) { delete(s.values, key.name) }

// Clone copies the state for a dry run.
func (s *CycleState) Clone() *CycleState {
	c := &CycleState{values: make(map[string]any, len(s.values)), skipFilter: maps.Clone(s.skipFilter), skipScore: maps.Clone(s.skipScore)}
	for k, v := range s.values {
		if cl, ok := v.(Cloner); ok {
			v = cl.CloneState()
		}
		c.values[k] = v
	}
	return c
}

// SkipFilter and SkipScore leave a plugin out of the rest of the cycle; the runner calls them.
func (s *CycleState) SkipFilter(plugin string) { note(&s.skipFilter, plugin) }
func (s *CycleState) SkipScore(plugin string)  { note(&s.skipScore, plugin) }

// SkipsFilter and SkipsScore tell whether a plugin was left out.
func (s *CycleState) SkipsFilter(plugin string) bool { _, ok := s.skipFilter[plugin]; return ok }
func (s *CycleState) SkipsScore(plugin string) bool  { _, ok := s.skipScore[plugin]; return ok }

func note(set *map[string]struct{}, plugin string) {
	if *set == nil {
		*set = map[string]struct{}{}
	}
	(*set)[plugin] = struct{}{}
}
