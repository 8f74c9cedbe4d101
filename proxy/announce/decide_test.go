package announce

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecide(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rank  []string
		self  string
		known map[string]verdict
		mine  bool
		watch []string
	}{
		{"no candidate", []string{"a", "b"}, "c", nil, false, nil},
		{"the only one asks nobody", []string{"a"}, "a", map[string]verdict{"a": dead}, true, nil},
		{"the first", []string{"a", "b"}, "a", map[string]verdict{"a": alive}, true, []string{"a"}},
		{"the first, before it has looked at itself", []string{"a", "b"}, "a", nil, true, []string{"a"}},
		{"the first finds itself dead, and asks the next", []string{"a", "b", "c"}, "a", map[string]verdict{"a": dead}, true, []string{"a", "b", "c"}},
		{"the first finds itself dead, and the next alive", []string{"a", "b", "c"}, "a", map[string]verdict{"a": dead, "b": alive}, false, []string{"a", "b"}},
		{"all are dead", []string{"a", "b"}, "a", map[string]verdict{"a": dead, "b": dead}, true, []string{"a", "b"}},
		{"all are dead, seen by the second", []string{"a", "b"}, "b", map[string]verdict{"a": dead, "b": dead}, false, []string{"b", "a"}},
		{"the second, of a first that is alive", []string{"a", "b", "c"}, "b", map[string]verdict{"a": alive}, false, []string{"b", "a"}},
		{"the second, of a first that never answered", []string{"a", "b", "c"}, "b", nil, false, []string{"b", "a"}},
		{"the second, of a first that is dead", []string{"a", "b", "c"}, "b", map[string]verdict{"a": dead, "b": alive}, true, []string{"b", "a"}},
		{"the second, which is not alive itself", []string{"a", "b", "c"}, "b", map[string]verdict{"a": dead}, false, []string{"b", "a"}},
		{"the third asks the second alone", []string{"a", "b", "c"}, "c", map[string]verdict{"b": alive}, false, []string{"c", "b"}},
		{"the third, of a dead second", []string{"a", "b", "c"}, "c", map[string]verdict{"b": dead}, false, []string{"c", "b", "a"}},
		{"the third, of two that are dead", []string{"a", "b", "c"}, "c", map[string]verdict{"a": dead, "b": dead, "c": alive}, true, []string{"c", "b", "a"}},
		{"the third, of a second that never answered", []string{"a", "b", "c"}, "c", map[string]verdict{"a": dead, "c": alive}, true, []string{"c", "b", "a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mine, watch := decide(tc.rank, tc.self, func(n string) verdict { return tc.known[n] })
			if mine != tc.mine {
				t.Errorf("mine: %v, want %v", mine, tc.mine)
			}
			if d := cmp.Diff(tc.watch, watch); d != "" {
				t.Errorf("watched (-want +got):\n%s", d)
			}
		})
	}
}

// Nodes that judge alike never announce an address both, and one does while any is alive.
func TestDecideGivesOneOwner(t *testing.T) {
	rank := []string{"a", "b", "c"}
	verdicts := []verdict{unknown, alive, dead}
	for _, a := range verdicts {
		for _, b := range verdicts {
			for _, c := range verdicts {
				known := map[string]verdict{"a": a, "b": b, "c": c}
				owners := 0
				for _, n := range rank {
					if mine, _ := decide(rank, n, func(n string) verdict { return known[n] }); mine {
						owners++
					}
				}
				if owners > 1 || owners == 0 && (a == alive || b == alive || c == alive) {
					t.Errorf("%v: %d owners", known, owners)
				}
			}
		}
	}
}

func TestPulse(t *testing.T) {
	for _, tc := range []struct {
		name string
		// asked are answers: + one, - none, ~ none while the node that asks is cut off.
		asked string
		want  verdict
	}{
		{"never asked", "", unknown},
		{"one answer", "+", alive},
		{"a lost answer or two", "+--", alive},
		{"three in a row", "+---", dead},
		{"not in a row", "+--+--", alive},
		{"one that never answered", "-----", unknown},
		{"seen by one that is cut off", "+~~~~~", alive},
		{"seen by one that is back", "+~~~-", dead},
		{"it is back", "+-----+", alive},
		{"cut off from one that is dead", "+---~~", dead},
	} {
		var p pulse
		for _, a := range tc.asked {
			p = p.next(a == '+', a != '~')
		}
		if p.verdict != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, p.verdict, tc.want)
		}
	}
}
