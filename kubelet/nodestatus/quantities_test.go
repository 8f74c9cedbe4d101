package nodestatus

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Allocatable follows what others make of the capacity, and keeps what the node and
// device plugins hold back.
func TestAllocatable(t *testing.T) {
	list := func(pairs ...string) v1.ResourceList {
		out := v1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	for _, tc := range []struct {
		name       string
		told, want v1.ResourceList
	}{
		{"of a new node", nil, list("cpu", "3", "a.com/dev", "1")},
		{"with a resource of others", list("b.com/x", "5"), list("cpu", "3", "a.com/dev", "1", "b.com/x", "5")},
		{"of which there is less", list("b.com/x", "1"), list("cpu", "3", "a.com/dev", "1", "b.com/x", "1")},
		{"which others want to be more", list("cpu", "8", "a.com/dev", "9"), list("cpu", "3", "a.com/dev", "1")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &Config{Capacity: list("cpu", "4"), Allocatable: list("cpu", "3")}
			_, got := c.quantities(tc.told, State{DeviceCapacity: list("a.com/dev", "2"), DeviceAllocatable: list("a.com/dev", "1")})
			if d := cmp.Diff(tc.want, got, cmp.Comparer(func(x, y resource.Quantity) bool { return x.Cmp(y) == 0 })); d != "" {
				t.Errorf("allocatable (-want +got):\n%s", d)
			}
		})
	}
}
