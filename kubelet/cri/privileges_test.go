package cri

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPrivileges(t *testing.T) {
	tests := map[string]struct {
		status, score string
		lacks         []string
		lowest        int
	}{
		"all":                           {status: "Name:\tskiff\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n", score: "0\n", lowest: -1000},
		"without SYS_RESOURCE":          {status: "CapEff:\t000001fffeffffff\n", score: "0\n", lacks: []string{"SYS_RESOURCE"}, lowest: 0},
		"protected, without it":         {status: "CapEff:\t000001fffeffffff\n", score: "-999\n", lacks: []string{"SYS_RESOURCE"}, lowest: -999},
		"without SYS_BOOT and BPF, too": {status: "CapEff:\t0000017ffebfffff\n", score: "12", lacks: []string{"SYS_BOOT", "SYS_RESOURCE", "BPF"}, lowest: 12},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := privilegesOf(tt.status, tt.score)
			if err != nil {
				t.Fatal(err)
			}
			var lacks []string
			for _, c := range allCapabilities {
				if !slices.Contains(p.capabilities, c) {
					lacks = append(lacks, c)
				}
			}
			if d := cmp.Diff(tt.lacks, lacks); d != "" {
				t.Errorf("missing capabilities (-want +got):\n%s", d)
			}
			if p.lowestOOMScore != tt.lowest {
				t.Errorf("the lowest score is %d, want %d", p.lowestOOMScore, tt.lowest)
			}
		})
	}
}

func TestPrivilegesUnreadable(t *testing.T) {
	for _, tt := range []struct{ status, score string }{{"CapEff:\tmany\n", "0"}, {"CapEff:\t0\n", "low"}} {
		if p, err := privilegesOf(tt.status, tt.score); err == nil {
			t.Errorf("%q and %q are read as %+v", tt.status, tt.score, p)
		}
	}
}

// A container gets no capability that its runtime does not have, unless it asks
// for it by name.
func TestCapabilitiesHeld(t *testing.T) {
	held := []string{"CHOWN", "SYS_ADMIN", "NET_RAW"}
	tests := map[string]struct {
		sc   *runtimeapi.LinuxContainerSecurityContext
		want []string
	}{
		"privileged":        {&runtimeapi.LinuxContainerSecurityContext{Privileged: true}, []string{"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_NET_RAW"}},
		"all":               {&runtimeapi.LinuxContainerSecurityContext{Capabilities: &runtimeapi.Capability{AddCapabilities: []string{"ALL"}}}, []string{"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_NET_RAW"}},
		"all but one":       {&runtimeapi.LinuxContainerSecurityContext{Capabilities: &runtimeapi.Capability{AddCapabilities: []string{"ALL"}, DropCapabilities: []string{"NET_RAW"}}}, []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}},
		"one that it lacks": {&runtimeapi.LinuxContainerSecurityContext{Capabilities: &runtimeapi.Capability{AddCapabilities: []string{"SYS_TIME"}, DropCapabilities: []string{"ALL"}}}, []string{"CAP_SYS_TIME"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, capabilities(tt.sc, held).Bounding); d != "" {
				t.Errorf("capabilities (-want +got):\n%s", d)
			}
		})
	}
}
