package cri

import (
	"testing"
	"time"
)

// Covers: node.eviction
func TestReadingAge(t *testing.T) {
	for _, tc := range []struct {
		name       string
		took, want time.Duration
	}{
		{"next to nothing", time.Millisecond, time.Second},
		{"a little", 200 * time.Millisecond, 4 * time.Second},
		{"much", 5 * time.Second, usageAge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := readingAge(tc.took); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
