package mvcc_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"skiff/kine/mvcc"
)

func TestWindow(t *testing.T) {
	w := mvcc.Window{Span: 10 * time.Second}
	var got []int64
	for _, turn := range []struct {
		second   int
		revision int64
	}{{0, 5}, {4, 7}, {9, 7}, {10, 8}, {13, 9}, {30, 9}, {31, 11}, {39, 11}, {40, 12}} {
		got = append(got, w.Move(time.Unix(0, 0).Add(time.Duration(turn.second)*time.Second), turn.revision))
	}
	if d := cmp.Diff([]int64{0, 0, 0, 5, 0, 9, 0, 0, 9}, got); d != "" {
		t.Error(d)
	}
	all := mvcc.Window{}
	if left := all.Move(time.Unix(0, 0), 3); left != 3 {
		t.Errorf("a window of no time keeps revision 3 (%d left)", left)
	}
}
