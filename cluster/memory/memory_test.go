package memory

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAfter(t *testing.T) {
	const busy, idle = little + 1, little
	for _, tc := range []struct {
		name    string
		periods []uint64
		want    []Act
	}{
		{"idle from the start", []uint64{idle, idle, idle, 0}, []Act{Nothing, Tighten, Nothing, Nothing}},
		{"busy", []uint64{busy, busy, busy}, []Act{Nothing, Nothing, Nothing}},
		{"a pause is not idleness", []uint64{busy, idle, busy, idle, busy}, []Act{Nothing, Nothing, Nothing, Nothing, Nothing}},
		{"work comes", []uint64{idle, idle, busy, busy, idle, idle}, []Act{Nothing, Tighten, Loosen, Nothing, Nothing, Tighten}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s State
			var got []Act
			for _, b := range tc.periods {
				got = append(got, s.After(b))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
