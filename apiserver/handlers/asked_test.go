package handlers

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestAsked(t *testing.T) {
	for name, tc := range map[string]struct {
		options runtime.Object
		want    string
	}{
		"an update's": {&metav1.UpdateOptions{FieldManager: "m"}, "m"},
		"a patch's":   {&metav1.PatchOptions{FieldManager: "m"}, "m"},
		"nobody":      {&metav1.UpdateOptions{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := asked(tc.options); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
