package sweep

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGone(t *testing.T) {
	failed := errors.New("failed")
	for name, tc := range map[string]struct {
		row  Row
		most int64
		fail error
		want []int64
	}{
		"the first version":                   {row: Row{Pos: 7, Count: 1, Key: "short"}, most: 4},
		"a change of a key without a past":    {row: Row{Pos: 7, Prev: 3, Count: 2, Key: "short"}, want: []int64{3}},
		"a delete of one":                     {row: Row{Pos: 7, Prev: 3, Key: "short"}, want: []int64{3, 7}},
		"a change of a key with few versions": {row: Row{Pos: 7, Prev: 3, Count: 4, Key: "k"}, most: 4},
		"one version too many":                {row: Row{Pos: 7, Prev: 3, Count: 5, Key: "k"}, most: 4},
		"as many as are worth a look":         {row: Row{Pos: 7, Prev: 3, Count: 6, Key: "k"}, most: 4, want: []int64{1}},
		"a look that fails":                   {row: Row{Pos: 7, Prev: 3, Count: 6, Key: "k"}, most: 4, fail: failed},
		"all versions are kept":               {row: Row{Pos: 7, Prev: 3, Count: 600, Key: "k"}},
		"only the newest":                     {row: Row{Pos: 7, Prev: 3, Count: 2, Key: "k"}, most: 1, want: []int64{1}},
	} {
		t.Run(name, func(t *testing.T) {
			thin := Thinning{Skips: func(key string) bool { return key == "short" }, Most: tc.most}
			got, err := thin.Gone(tc.row, func(pos, most int64) ([]int64, error) {
				if pos != tc.row.Pos || most != tc.most {
					t.Errorf("asked for what is before %d of %d", most, pos)
				}
				return []int64{1}, tc.fail
			})
			if !errors.Is(err, tc.fail) {
				t.Fatalf("error %v, want %v", err, tc.fail)
			}
			if diff := cmp.Diff(tc.want, got); err == nil && diff != "" {
				t.Errorf("gone (-want +got):\n%s", diff)
			}
		})
	}
}
