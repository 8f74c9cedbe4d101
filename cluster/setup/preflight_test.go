package setup

import (
	"testing"

	"skiff/cluster/config"
)

func TestNetworkChecks(t *testing.T) {
	for backend, want := range map[string]string{
		"": "NodeAddress ", config.BackendVXLAN: "NodeAddress ", config.BackendHostGateway: "NodeAddress ",
		config.BackendWireGuard: "NodeAddress SystemVerification-wireguard ",
	} {
		got := ""
		for _, c := range networkChecks(&config.Cluster{Networking: config.Networking{PodBackend: backend}}, "192.0.2.1") {
			got += c.Name + " "
		}
		if got != want {
			t.Errorf("backend %q: checks %q, want %q", backend, got, want)
		}
	}
}

// TestNodeAddressIsChecked has the address that each kind of node is reached by.
func TestNodeAddressIsChecked(t *testing.T) {
	master := &config.JoinControlPlane{LocalAPIEndpoint: config.APIEndpoint{AdvertiseAddress: "192.0.2.2"}}
	for _, tt := range []struct {
		name string
		join Join
		want string
	}{
		{"a worker's own", Join{IP: "192.0.2.1", Config: &config.Join{}}, "192.0.2.1"},
		{"a master's advertised one", Join{IP: "192.0.2.1", Config: &config.Join{ControlPlane: master}}, "192.0.2.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.join.address(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			cluster := &config.Cluster{Networking: config.Networking{ServiceSubnet: tt.want + "/32"}}
			if _, errs := networkChecks(cluster, tt.join.address())[0].Run(t.Context()); len(errs) != 1 {
				t.Errorf("errors %v, want one", errs)
			}
		})
	}
}
