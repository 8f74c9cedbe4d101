package proxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/ptr"

	"skiff/proxy/ipvs"
)

func TestConfigFile(t *testing.T) {
	const head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
	base := Config{NodeName: "n", NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, HealthzAddress: "0.0.0.0:10256", ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	for name, tc := range map[string]struct {
		doc  string
		want func(*Config)
		err  string
	}{
		"empty":    {doc: "", want: func(*Config) {}},
		"no field": {doc: head, want: func(*Config) {}},
		"nftables": {
			doc: head + "mode: nftables\nnftables: {masqueradeAll: true, masqueradeBit: 3, syncPeriod: 1m, minSyncPeriod: 1s}\niptables: {masqueradeBit: 5}\n",
			want: func(c *Config) {
				c.Mode, c.MasqueradeAll, c.MasqueradeBit, c.SyncPeriod, c.MinSyncPeriod = NFTables, true, ptr.To(3), time.Minute, time.Second
			},
		},
		"iptables": {
			doc: head + "iptables: {localhostNodePorts: false, masqueradeBit: 5}\nmetricsBindAddress: 127.0.0.1:1\nbindAddressHardFail: true\n",
			want: func(c *Config) {
				c.LocalhostNodePorts, c.MasqueradeBit, c.MetricsAddress, c.BindAddressHardFail = ptr.To(false), ptr.To(5), "127.0.0.1:1", true
			},
		},
		"ranges": {
			doc: head + "clusterCIDR: 10.1.0.0/16,fd00::/64\nnodePortAddresses: [192.168.0.0/16]\n",
			want: func(c *Config) {
				c.ClusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/64")}
				c.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
			},
		},
		"primary addresses": {
			doc: head + "nodePortAddresses: [primary]\n",
			want: func(c *Config) {
				c.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::7/128")}
			},
		},
		"without effect": {
			doc: head + "clientConnection: {qps: 5}\noomScoreAdj: -999\nfeatureGates: {A: true}\nipvs: {scheduler: rr}\nconfigSyncPeriod: 1m\nbindAddress: 0.0.0.0\n",
			want: func(c *Config) {
				c.Ignored = []string{"bindAddress", "clientConnection", "configSyncPeriod", "featureGates", "ipvs", "oomScoreAdj"}
			},
		},
		"ipvs": {
			doc: head + "mode: ipvs\niptables: {masqueradeBit: 5}\nipvs: {scheduler: lc, strictARP: true, excludeCIDRs: [192.0.2.0/24], tcpTimeout: 1h, tcpFinTimeout: 1m, udpTimeout: 30s, syncPeriod: 1m, minSyncPeriod: 1s}\n",
			want: func(c *Config) {
				c.Mode, c.MasqueradeBit, c.SyncPeriod, c.MinSyncPeriod = IPVS, ptr.To(5), time.Minute, time.Second
				c.IPVS = ipvs.Options{Scheduler: "lc", StrictARP: true, Exclude: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
					TCPTimeout: time.Hour, TCPFinTimeout: time.Minute, UDPTimeout: 30 * time.Second}
			},
		},
		"conntrack": {
			doc: head + "conntrack: {maxPerCore: 1, min: 2, tcpEstablishedTimeout: 1h, tcpCloseWaitTimeout: 1m, tcpBeLiberal: true, udpTimeout: 30s, udpStreamTimeout: 3m}\n",
			want: func(c *Config) {
				c.Conntrack = Conntrack{MaxPerCore: 1, Min: 2, TCPEstablished: time.Hour, TCPCloseWait: time.Minute, TCPBeLiberal: true, UDP: 30 * time.Second, UDPStream: 3 * time.Minute}
			},
		},
		"mode":             {doc: head + "mode: foo\n", err: `mode: "foo" is not known: want iptables, nftables or ipvs`},
		"scheduler":        {doc: head + "mode: ipvs\nipvs: {scheduler: best}\n", err: `ipvs.scheduler: "best" is not known: want one of rr, wrr`},
		"exclude":          {doc: head + "mode: ipvs\nipvs: {excludeCIDRs: [all]}\n", err: `ipvs.excludeCIDRs: "all" is no range`},
		"timeout":          {doc: head + "mode: ipvs\nipvs: {udpTimeout: -1s}\n", err: "ipvs.udpTimeout: -1s: want it above zero"},
		"unknown field":    {doc: head + "iptable: {}\n", err: `unknown field "iptable"`},
		"another kind":     {doc: "apiVersion: v1\nkind: ConfigMap\n", err: "want apiVersion kubeproxy.config.k8s.io/v1alpha1"},
		"masqueradeBit":    {doc: head + "iptables: {masqueradeBit: 32}\n", err: "iptables.masqueradeBit: 32: want 0 to 31"},
		"clusterCIDR":      {doc: head + "clusterCIDR: 10.0.0.0\n", err: `clusterCIDR: "10.0.0.0" is no range`},
		"the node's range": {doc: head + "detectLocalMode: NodeCIDR\n", want: func(c *Config) { c.DetectLocal.Mode = NodeCIDR }},
		"a bridge": {doc: head + "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0, interfaceNamePrefix: veth}\n", want: func(c *Config) {
			c.DetectLocal, c.Ignored = DetectLocal{Mode: BridgeInterface, Interface: "cni0"}, []string{"detectLocal.interfaceNamePrefix"}
		}},
		"links": {doc: head + "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}\n", want: func(c *Config) {
			c.DetectLocal = DetectLocal{Mode: InterfaceNamePrefix, Interface: "veth"}
		}},
		"a bridge without a name": {doc: head + "detectLocalMode: BridgeInterface\n", err: `detectLocal.bridgeInterface: "": want a link's name`},
		"a name with a rule":      {doc: head + "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: 'v\" drop'}\n", err: "detectLocal.interfaceNamePrefix"},
		"detectLocalMode":         {doc: head + "detectLocalMode: Guess\n", err: `detectLocalMode: "Guess" is not known: want ClusterCIDR, NodeCIDR`},
		"bind address":            {doc: head + "healthzBindAddress: here\n", err: `healthzBindAddress: "here" is no ADDRESS:PORT`},
	} {
		got, err := base.With([]byte(tc.doc))
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v, want %s", name, err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := base
		tc.want(&want)
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
