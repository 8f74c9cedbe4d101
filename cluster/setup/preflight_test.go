package setup

import (
	"testing"

	"skiff/cluster/config"
)

func TestNetworkChecks(t *testing.T) {
	for backend, want := range map[string]string{"": "", config.BackendVXLAN: "", config.BackendHostGateway: "", config.BackendWireGuard: "SystemVerification-wireguard"} {
		got := ""
		for _, c := range networkChecks(&config.Cluster{Networking: config.Networking{PodBackend: backend}}) {
			got += c.Name
		}
		if got != want {
			t.Errorf("backend %q: checks %q, want %q", backend, got, want)
		}
	}
}
