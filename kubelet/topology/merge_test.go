package topology

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mask(nodes ...int) Mask { return NewMask(nodes...) }

// Covers: node.managers
func TestDecide(t *testing.T) {
	yes, no := func(nodes ...int) Hint { return Hint{mask(nodes...), true} }, func(nodes ...int) Hint { return Hint{mask(nodes...), false} }
	either := []Hint{yes(0), yes(1), no(0, 1)}
	for _, tc := range []struct {
		name    string
		answers []map[string][]Hint
		want    map[string]Hint // by policy; one that is missing refuses
	}{
		{"nobody cares", []map[string][]Hint{nil, {}}, map[string]Hint{BestEffort: yes(0, 1), Restricted: yes(0, 1), SingleNUMANode: yes()}},
		{"a resource does not care", []map[string][]Hint{{"cpu": nil}}, map[string]Hint{BestEffort: yes(0, 1), Restricted: yes(0, 1), SingleNUMANode: yes()}},
		{"one node of two", []map[string][]Hint{{"cpu": either}}, map[string]Hint{BestEffort: yes(0), Restricted: yes(0), SingleNUMANode: yes(0)}},
		{"two agree on the second", []map[string][]Hint{{"cpu": either}, {"dev": {yes(1), no(0, 1)}}}, map[string]Hint{BestEffort: yes(1), Restricted: yes(1), SingleNUMANode: yes(1)}},
		{"two cannot agree", []map[string][]Hint{{"cpu": {yes(0)}}, {"dev": {yes(1)}}}, map[string]Hint{BestEffort: no(0, 1)}},
		{"one is apart now", []map[string][]Hint{{"cpu": {no(0, 1)}}, {"dev": {yes(1), no(0, 1)}}}, map[string]Hint{BestEffort: no(0, 1)}},
		{"one must be apart", []map[string][]Hint{{"cpu": {yes(0, 1)}}}, map[string]Hint{BestEffort: yes(0, 1), Restricted: yes(0, 1)}},
		{"no way", []map[string][]Hint{{"cpu": {}}}, map[string]Hint{BestEffort: no(0, 1)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, policy := range []string{BestEffort, Restricted, SingleNUMANode} {
				got, ok := decide(policy, merger{all: mask(0, 1)}, tc.answers)
				want, admits := tc.want[policy]
				if ok != admits {
					t.Errorf("%s: admitted: %t, want %t", policy, ok, admits)
				} else if ok && got != want {
					t.Errorf("%s: got %v, want %v", policy, got, want)
				}
			}
		})
	}
}

// TestUnpreferred prefers sets that hold what the most demanding resource needs.
func TestUnpreferred(t *testing.T) {
	for _, tc := range []struct {
		name       string
		aim        int
		best, next Mask
		want       bool
	}{
		{"narrower, while too wide", 2, mask(0, 1, 2), mask(0, 1), true},
		{"wider, while too wide", 1, mask(0, 1), mask(0, 1, 2), false},
		{"not narrower than needed", 2, mask(0, 1), mask(0), false},
		{"lower of the right size", 2, mask(1, 2), mask(0, 1), true},
		{"wider up to what is needed", 2, mask(0), mask(0, 1), true},
		{"not wider than needed", 2, mask(0), mask(0, 1, 2), false},
		{"wider, but too narrow still", 3, mask(0), mask(0, 1), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := (merger{aim: tc.aim}).better(Hint{Nodes: tc.best}, Hint{Nodes: tc.next}); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}

func TestClosest(t *testing.T) {
	nodes := []Node{{ID: 0, Distances: []int{10, 40, 20}}, {ID: 1, Distances: []int{40, 10, 40}}, {ID: 2, Distances: []int{20, 40, 10}}}
	answers := []map[string][]Hint{{"cpu": {{mask(0, 1), true}, {mask(0, 2), true}, {mask(1, 2), true}}}}
	for _, tc := range []struct {
		closest bool
		want    Mask
	}{{false, mask(0, 1)}, {true, mask(0, 2)}} {
		m, err := New(Config{Policy: Restricted, Scope: ContainerScope, Options: Options{Closest: tc.closest, MaxNodes: 8}, Nodes: nodes})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := decide(Restricted, m.merger, answers); got.Nodes != tc.want {
			t.Errorf("closest %t: got %v, want %v", tc.closest, got.Nodes, tc.want)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		name, key, value string
		want             Options
		err              string
	}{
		{"closest", "prefer-closest-numa-nodes", "true", Options{Closest: true, MaxNodes: 8}, ""},
		{"more nodes", "max-allowable-numa-nodes", "12", Options{MaxNodes: 12}, ""},
		{"fewer nodes", "max-allowable-numa-nodes", "4", Options{}, `the minimum value of "max-allowable-numa-nodes" should not be less than 8`},
		{"unknown", "other", "true", Options{}, `unknown Topology Manager Policy option: "other"`},
		{"no boolean", "prefer-closest-numa-nodes", "maybe", Options{}, "bad value for option"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseOptions(map[string]string{tc.key: tc.value})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %s", err, tc.err)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}
