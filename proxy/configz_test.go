package proxy

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"
)

// What /configz shows gives the same configuration when it is given again.
func TestDocumentGivesTheConfigurationAgain(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing given": "",
		"iptables":      "mode: iptables\niptables: {masqueradeBit: 3, masqueradeAll: true, localhostNodePorts: false, minSyncPeriod: 2s, syncPeriod: 7s}",
		"nftables":      "mode: nftables\nnftables: {masqueradeBit: 5, minSyncPeriod: 3s, syncPeriod: 9s}\nnodePortAddresses: [192.0.2.0/24, fd00::/64]",
		"links":         "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\nclusterCIDR: 10.0.0.0/8,fd01::/48",
		"bridge":        "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\nhostnameOverride: other\nbindAddressHardFail: true",
		"addresses":     "healthzBindAddress: 127.0.0.1:1\nmetricsBindAddress: '[::1]:2'",
		"conntrack":     "conntrack: {maxPerCore: 7, min: 9, tcpEstablishedTimeout: 1h, tcpCloseWaitTimeout: 2h, tcpBeLiberal: true, udpTimeout: 1s, udpStreamTimeout: 2s}",
	} {
		t.Run(name, func(t *testing.T) {
			given := Config{Client: fake.NewClientset(), NodeName: "n1"}
			completed := func(doc string) Config {
				t.Helper()
				c, err := given.With([]byte("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n" + doc))
				if err == nil {
					c, err = c.complete()
				}
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			want := completed(doc)
			shown, err := yaml.Marshal(want.document())
			if err != nil {
				t.Fatal(err)
			}
			got, err := given.With(shown)
			if err == nil {
				got, err = got.complete()
			}
			if err != nil {
				t.Fatalf("%s\n%v", shown, err)
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Config{}, "Client", "Log", "Events"), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("of\n%s\n%s", shown, diff)
			}
		})
	}
}

// A health check node port answers where node ports do.
func TestHealthCheckNodePortAddresses(t *testing.T) {
	own := []net.Addr{
		&net.IPNet{IP: net.ParseIP("127.0.0.1"), Mask: net.CIDRMask(8, 32)}, &net.IPNet{IP: net.ParseIP("192.0.2.7"), Mask: net.CIDRMask(24, 32)},
		&net.IPNet{IP: net.ParseIP("fd00::7"), Mask: net.CIDRMask(64, 128)}, &net.IPNet{IP: net.ParseIP("fe80::1"), Mask: net.CIDRMask(64, 128)},
	}
	for ranges, want := range map[string][]string{
		"192.0.2.0/24": {"192.0.2.7"}, "fd00::/8": {"fd00::7"}, "198.51.100.0/24": nil, "0.0.0.0/0": {"127.0.0.1", "192.0.2.7"}, "::/0": {"fd00::7"},
	} {
		if diff := cmp.Diff(want, within([]netip.Prefix{netip.MustParsePrefix(ranges)}, own)); diff != "" {
			t.Errorf("%s: %s", ranges, diff)
		}
	}
	listeners, err := listenOnNodePort([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range listeners {
		defer l.Close()
		if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
			t.Errorf("listens on %s", ip)
		}
	}
	if len(listeners) == 0 {
		t.Error("listens nowhere")
	}
}
