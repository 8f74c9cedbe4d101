package config

import (
	"strings"
	"testing"
)

func TestPinning(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"all defaults", "", ""},
		{"static", "cpuManagerPolicy: static\ncpuManagerPolicyOptions: {full-pcpus-only: 'true'}\nreservedSystemCPUs: 0,2\ntopologyManagerPolicy: restricted\ntopologyManagerScope: pod", ""},
		{"CPU policy", "cpuManagerPolicy: dynamic", `cpuManagerPolicy (--cpu-manager-policy) "dynamic" must be one of: ["none" "static"]`},
		{"CPU option", "cpuManagerPolicyOptions: {full-cores: 'true'}", `unknown CPU Manager Policy option: "full-cores"`},
		{"alpha option", "cpuManagerPolicyOptions: {align-by-socket: 'true'}", "CPU Manager Policy Alpha-level Options not enabled"},
		{"alpha option with its gate", "featureGates: {CPUManagerPolicyAlphaOptions: true}\ncpuManagerPolicyOptions: {align-by-socket: 'true'}", ""},
		{"options that exclude each other", "featureGates: {CPUManagerPolicyAlphaOptions: true}\ncpuManagerPolicyOptions: {full-pcpus-only: 'true', distribute-cpus-across-cores: 'true'}", "can not be used at the same time"},
		{"reserved CPUs", "reservedSystemCPUs: x", "unable to parse reservedSystemCPUs (--reserved-cpus) x"},
		{"topology policy", "topologyManagerPolicy: strict", `topologyManagerPolicy (--topology-manager-policy) "strict" must be one of: ["none" "best-effort" "restricted" "single-numa-node"]`},
		{"topology scope", "topologyManagerScope: node", `topologyManagerScope (--topology-manager-scope) "node" must be one of: "container", or "pod"`},
		{"memory policy", "memoryManagerPolicy: static", `memoryManagerPolicy (--memory-manager-policy) "static" must be one of: ["None" "Static"]`},
		{"memory without a reservation", "memoryManagerPolicy: Static", "needs reservedMemory"},
		{"reserved memory", "memoryManagerPolicy: Static\nreservedMemory: [{numaNode: 0, limits: {memory: 1Gi}}]", ""},
		{"reserved memory twice", "memoryManagerPolicy: Static\nreservedMemory: [{numaNode: 0, limits: {memory: 1Gi}}, {numaNode: 0, limits: {memory: 1Gi}}]", "has a duplicate value for NUMA node 0"},
		{"reserved CPU as memory", "memoryManagerPolicy: Static\nreservedMemory: [{numaNode: 0, limits: {cpu: 1}}]", `the limit type "cpu" for NUMA node 0 is not supported`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.in))
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}
