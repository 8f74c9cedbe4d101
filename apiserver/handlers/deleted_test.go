package handlers

import (
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/store"
)

// A forced delete that somebody was ahead of has succeeded.
//
// Covers: api.delete
func TestEnded(t *testing.T) {
	marked, last, broken := &store.Item{}, &store.Item{}, errors.New("the store is away")
	pods := schema.GroupResource{Resource: "pods"}
	for _, tc := range []struct {
		name string
		err  error
		want *store.Item
		gone bool
		fail error
	}{
		{name: "removed", want: last, gone: true},
		{name: "removed by another", err: apierrors.NewNotFound(pods, "p"), want: marked, gone: true},
		{name: "removed and made anew", err: apierrors.NewConflict(pods, "p", errors.New("UID")), want: marked, gone: true},
		{name: "not removed", err: broken, fail: broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var from *store.Item
			if tc.err == nil {
				from = last
			}
			it, gone, err := ended(marked, from, tc.err)
			if it != tc.want || gone != tc.gone || !errors.Is(err, tc.fail) {
				t.Errorf("answers %p, %v, %v", it, gone, err)
			}
		})
	}
}
