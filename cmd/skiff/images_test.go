package main

import "testing"

func TestShownSize(t *testing.T) {
	for bytes, want := range map[uint64]string{0: "0B", 999: "999B", 999_600: "1MB", 3_284_786: "3.28MB", 104_857_600: "105MB", 2_500_000_000: "2.5GB"} {
		if got := shownSize(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}
