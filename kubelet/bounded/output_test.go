package bounded

import "testing"

func TestOutput(t *testing.T) {
	for _, tc := range []struct {
		name              string
		told, limit, want int
	}{
		{"nothing was told", -1, 100, 100},
		{"less is wanted", 10, 100, 10},
		{"more is wanted", 1000, 100, 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := t.Context()
			if tc.told >= 0 {
				ctx = WithOutput(ctx, tc.told)
			}
			if got := Output(ctx, tc.limit); got != tc.want {
				t.Errorf("%d bytes are kept, want %d", got, tc.want)
			}
		})
	}
}
