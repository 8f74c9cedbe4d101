package cri

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSysctls(t *testing.T) {
	mapping := []*runtimeapi.IDMapping{{HostId: 65536, Length: 65536}}
	const ports, ping, all = "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "0 2147483647"
	tests := map[string]struct {
		own  map[string]string
		ns   *runtimeapi.NamespaceOption
		want map[string]string
	}{
		"none":                {nil, &runtimeapi.NamespaceOption{}, map[string]string{ports: "0", ping: all}},
		"others":              {map[string]string{"kernel.shmmax": "1"}, &runtimeapi.NamespaceOption{}, map[string]string{ports: "0", ping: all, "kernel.shmmax": "1"}},
		"the pod's own":       {map[string]string{ports: "1024"}, &runtimeapi.NamespaceOption{}, map[string]string{ports: "1024", ping: all}},
		"with slashes":        {map[string]string{"net/ipv4/ping_group_range": "1 0"}, &runtimeapi.NamespaceOption{}, map[string]string{ports: "0", "net/ipv4/ping_group_range": "1 0"}},
		"the node's network":  {nil, &runtimeapi.NamespaceOption{Network: runtimeapi.NamespaceMode_NODE}, map[string]string{}},
		"users of their own":  {nil, &runtimeapi.NamespaceOption{UsernsOptions: &runtimeapi.UserNamespace{Uids: mapping, Gids: mapping}}, map[string]string{ports: "0"}},
		"no namespaces named": {nil, nil, map[string]string{ports: "0", ping: all}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, sysctls(tc.own, tc.ns)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
