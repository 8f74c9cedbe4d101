package apiserver

import (
	"strings"
	"testing"

	"skiff/kine"
)

func TestStoreFill(t *testing.T) {
	for _, c := range []struct {
		name              string
		size, free, quota int64
		want              fill
		says              string
	}{
		{"no quota", 1 << 40, 0, 0, roomy, "StoreHasRoom"},
		{"half", 500, 0, 1000, roomy, "StoreHasRoom"},
		{"free pages do not count", 1500, 800, 1000, roomy, "StoreHasRoom"},
		{"four fifths", 800, 0, 1000, nearlyFull, "raise store-quota-bytes, before writes are refused"},
		{"all", 1000, 0, 1000, full, "writes are refused until"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := kine.Status{SizeBytes: c.size, FreeBytes: c.free, QuotaBytes: c.quota}
			if got := fillOf(st); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
			if reason, text := storeWords(c.want, st); !strings.Contains(reason+" "+text, c.says) {
				t.Errorf("it says %s: %s", reason, text)
			}
		})
	}
}
