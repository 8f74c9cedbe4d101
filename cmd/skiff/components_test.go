package main

import (
	"net"
	"net/netip"
	"testing"
)

func TestAdvertisedAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		told, bind string
		own        net.IP
		want       string
	}{
		"told":                    {"192.0.2.9", "192.0.2.1", net.ParseIP("192.0.2.2"), "192.0.2.9"},
		"told loopback":           {"127.0.0.1", "0.0.0.0", net.ParseIP("192.0.2.2"), "127.0.0.1"},
		"one address":             {"", "192.0.2.1", net.ParseIP("192.0.2.2"), "192.0.2.1"},
		"any address":             {"", "0.0.0.0", net.ParseIP("192.0.2.2"), "192.0.2.2"},
		"any of the newer family": {"", "::", net.ParseIP("2001:db8::2"), "2001:db8::2"},
		"loopback":                {"", "127.0.0.1", net.ParseIP("192.0.2.2"), "192.0.2.2"},
		"a machine without one":   {"", "127.0.0.1", nil, "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := advertised(tc.told, netip.MustParseAddr(tc.bind), tc.own)
			if err != nil || got.String() != tc.want {
				t.Errorf("%s, %v; want %s", got, err, tc.want)
			}
		})
	}
	if _, err := advertised("here", netip.MustParseAddr("0.0.0.0"), nil); err == nil {
		t.Error("a name was taken for an address")
	}
}
