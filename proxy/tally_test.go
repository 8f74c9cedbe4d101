package proxy

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"skiff/proxy/state"
)

// What changes add up to is what a look at every Service finds.
func TestTally(t *testing.T) {
	table, grown := state.NewTable(), newTally()
	named := func(i int) types.NamespacedName {
		return types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("s", i)}
	}
	endpoint := []state.Endpoint{{}}
	kinds := [][]state.Port{
		{{InternalLocal: true, HasAny: true}},
		{{InternalLocal: true}},
		{{ExternalLocal: true, HasAny: true, NodePort: 30000}, {ExternalLocal: true, HasAny: true, NodePort: 30001}},
		{{ExternalLocal: true, HasAny: true}}, // nobody outside can ask it
		{{ExternalLocal: true, HasAny: true, NodePort: 30000, Local: endpoint, HealthCheckNodePort: 31000, LocalReady: 2}},
		nil, // it goes
	}
	set := func(i, kind int) {
		ports := make([]state.Port, len(kinds[kind]))
		copy(ports, kinds[kind])
		for j := range ports {
			ports[j].Name.NamespacedName = named(i)
		}
		table.Set(named(i), ports)
	}
	for i := range 24 {
		set(i, i%len(kinds))
	}
	same := func(what string, inside, outside, ports int) {
		t.Helper()
		grown.take(table)
		whole := newTally()
		whole.take(table)
		if diff := cmp.Diff(whole, grown, cmp.AllowUnexported(tally{}, counts{}, checked{})); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
		if diff := cmp.Diff([]int{inside, outside, ports}, []int{grown.inside, grown.outside, len(grown.checked)}); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	same("at first", 4, 8, 4)
	for i := range 24 {
		set(i, (i+1)%len(kinds))
	}
	same("all changed", 4, 8, 4)
	for i := range 23 {
		set(i, 5)
	}
	same("all but one went", 1, 0, 0)
	for range 5000 { // more than the table remembers
		set(1, 4)
		set(1, 0)
	}
	set(2, 4)
	same("long not looked", 2, 0, 1)
	if got := grown.checked[named(2)]; got != (checked{31000, 2}) {
		t.Errorf("the health check node port is %v", got)
	}
}
