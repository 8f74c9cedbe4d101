package main

import (
	"testing"

	"skiff/cluster/node"
)

// The proxies of other nodes are asked where they answer to others.
func TestHealthPort(t *testing.T) {
	for _, tc := range []struct {
		address  string
		disabled bool
		want     int
	}{
		{"0.0.0.0:10256", false, 10256},
		{"[::]:10300", false, 10300},
		{"192.0.2.7:10256", false, 10256},
		{"127.0.0.1:10256", false, 0},
		{"", false, 0},
		{"0.0.0.0:10256", true, 0},
	} {
		c := &node.Config{}
		c.Cluster.Proxy.Disabled = tc.disabled
		if got := healthPort(c, tc.address); got != tc.want {
			t.Errorf("%q, disabled %v: %d, want %d", tc.address, tc.disabled, got, tc.want)
		}
	}
}
