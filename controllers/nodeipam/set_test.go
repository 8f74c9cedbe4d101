package nodeipam

import (
	"errors"
	"net/netip"
	"testing"
)

func TestBlocks(t *testing.T) {
	for name, tc := range map[string]struct {
		prefix string
		bits   int
		taken  []string
		want   []string
	}{
		"in order":       {"10.244.0.0/22", 24, nil, []string{"10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"}},
		"skips taken":    {"10.244.0.0/23", 24, []string{"10.244.0.0/24"}, []string{"10.244.1.0/24"}},
		"skips services": {"10.0.0.0/22", 24, []string{"10.0.0.0/23"}, []string{"10.0.2.0/24", "10.0.3.0/24"}},
		"IPv6":           {"fd00::/62", 64, []string{"fd00:0:0:1::/64"}, []string{"fd00::/64", "fd00:0:0:2::/64", "fd00:0:0:3::/64"}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := newBlocks(netip.MustParsePrefix(tc.prefix), tc.bits)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range tc.taken {
				b.occupy(netip.MustParsePrefix(p), "other")
			}
			for _, want := range tc.want {
				got, err := b.take("node")
				if err != nil || got != netip.MustParsePrefix(want) {
					t.Fatalf("take = %v, %v, want %s", got, err, want)
				}
			}
			if _, err := b.take("node"); !errors.Is(err, errFull) {
				t.Errorf("a full range gave %v", err)
			}
			b.release("node")
			if got, err := b.take("again"); err != nil || got != netip.MustParsePrefix(tc.want[0]) {
				t.Errorf("after release: %v, %v", got, err)
			}
		})
	}
}

func TestBlocksRefuseSizes(t *testing.T) {
	if _, err := newBlocks(netip.MustParsePrefix("10.0.0.0/24"), 16); err == nil {
		t.Error("a node range larger than the cluster's was accepted")
	}
}
