package proxy

import (
	"net/netip"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kube-proxy/config/v1alpha1"
	"k8s.io/utils/ptr"
)

// document is the configuration in effect as the file that would give it.
func (c Config) document() *v1alpha1.KubeProxyConfiguration {
	duration := func(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }
	// Where nothing is set the kernel's own value stays.
	kernel := func(d time.Duration) *metav1.Duration {
		if d == 0 {
			return nil
		}
		return &metav1.Duration{Duration: d}
	}
	texts := func(ranges []netip.Prefix) []string {
		var out []string
		for _, r := range ranges {
			out = append(out, r.String())
		}
		return out
	}
	f := &v1alpha1.KubeProxyConfiguration{
		TypeMeta:           metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "KubeProxyConfiguration"},
		HostnameOverride:   c.NodeName,
		Mode:               v1alpha1.ProxyMode(c.Mode),
		HealthzBindAddress: c.HealthzAddress, MetricsBindAddress: c.MetricsAddress, BindAddressHardFail: c.BindAddressHardFail,
		ClusterCIDR:       strings.Join(texts(c.ClusterCIDRs), ","),
		NodePortAddresses: texts(c.NodePortAddresses),
		DetectLocalMode:   v1alpha1.LocalMode(c.DetectLocal.Mode),
		Conntrack: v1alpha1.KubeProxyConntrackConfiguration{
			TCPEstablishedTimeout: kernel(c.Conntrack.TCPEstablished), TCPCloseWaitTimeout: kernel(c.Conntrack.TCPCloseWait),
			TCPBeLiberal: c.Conntrack.TCPBeLiberal, UDPTimeout: duration(c.Conntrack.UDP), UDPStreamTimeout: duration(c.Conntrack.UDPStream),
		},
	}
	if n := c.Conntrack.MaxPerCore; n != 0 {
		f.Conntrack.MaxPerCore = ptr.To(int32(n))
	}
	if n := c.Conntrack.Min; n != 0 {
		f.Conntrack.Min = ptr.To(int32(n))
	}
	switch c.DetectLocal.Mode {
	case BridgeInterface:
		f.DetectLocal.BridgeInterface = c.DetectLocal.Interface
	case InterfaceNamePrefix:
		f.DetectLocal.InterfaceNamePrefix = c.DetectLocal.Interface
	}
	least, period, bit := duration(c.MinSyncPeriod), duration(c.SyncPeriod), ptr.To(int32(*c.MasqueradeBit))
	switch c.Mode {
	case NFTables:
		f.NFTables = v1alpha1.KubeProxyNFTablesConfiguration{MasqueradeBit: bit, MasqueradeAll: c.MasqueradeAll, MinSyncPeriod: least, SyncPeriod: period}
		return f
	case IPVS:
		o := c.IPVS
		f.IPVS = v1alpha1.KubeProxyIPVSConfiguration{
			MinSyncPeriod: least, SyncPeriod: period, Scheduler: o.Scheduler, ExcludeCIDRs: texts(o.Exclude), StrictARP: o.StrictARP,
			TCPTimeout: duration(o.TCPTimeout), TCPFinTimeout: duration(o.TCPFinTimeout), UDPTimeout: duration(o.UDPTimeout),
		}
	}
	f.IPTables = v1alpha1.KubeProxyIPTablesConfiguration{MasqueradeBit: bit, MasqueradeAll: c.MasqueradeAll, LocalhostNodePorts: c.LocalhostNodePorts}
	if c.Mode == IPTables {
		f.IPTables.MinSyncPeriod, f.IPTables.SyncPeriod = least, period
	}
	return f
}
