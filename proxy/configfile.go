package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	componentconfig "k8s.io/component-base/config/v1alpha1"
	"k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"skiff/proxy/ipvs"
)

// maxMasqueradeBit is the highest bit of a packet's mark.
const maxMasqueradeBit = 31

// With is the configuration changed by a KubeProxyConfiguration in YAML; empty
// changes nothing. What this proxy cannot do is refused.
func (c Config) With(doc []byte) (Config, error) {
	if len(doc) == 0 {
		return c, nil
	}
	var f v1alpha1.KubeProxyConfiguration
	if err := yaml.UnmarshalStrict(doc, &f); err != nil {
		return c, fmt.Errorf("KubeProxyConfiguration: %w", err)
	}
	if v := f.GroupVersionKind(); v != v1alpha1.SchemeGroupVersion.WithKind("KubeProxyConfiguration") {
		return c, fmt.Errorf("KubeProxyConfiguration: %s is not known: want apiVersion %s, kind KubeProxyConfiguration", v, v1alpha1.SchemeGroupVersion)
	}
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("KubeProxyConfiguration: %s: %s", field, fmt.Sprintf(format, args...)))
	}
	switch mode := Mode(f.Mode); mode {
	case "":
	case IPTables, NFTables, IPVS:
		c.Mode = mode
	default:
		wrong("mode", "%q is not known: want iptables, nftables or ipvs", mode)
	}
	own := rules{field: "iptables", bit: f.IPTables.MasqueradeBit, all: f.IPTables.MasqueradeAll, least: f.IPTables.MinSyncPeriod, period: f.IPTables.SyncPeriod}
	switch c.Mode {
	case IPVS:
		// The rest of the packet filter's is iptables', as upstream.
		own.least, own.period = f.IPVS.MinSyncPeriod, f.IPVS.SyncPeriod
		c.IPVS = ipvsOf(&f.IPVS, wrong)
	case NFTables:
		own = rules{field: "nftables", bit: f.NFTables.MasqueradeBit, all: f.NFTables.MasqueradeAll, least: f.NFTables.MinSyncPeriod, period: f.NFTables.SyncPeriod}
	}
	own.set(&c, wrong)
	if f.IPTables.LocalhostNodePorts != nil {
		c.LocalhostNodePorts = f.IPTables.LocalhostNodePorts
	}
	if f.HostnameOverride != "" {
		c.NodeName = f.HostnameOverride
	}
	for field, at := range map[string]struct {
		given string
		to    *string
	}{"healthzBindAddress": {f.HealthzBindAddress, &c.HealthzAddress}, "metricsBindAddress": {f.MetricsBindAddress, &c.MetricsAddress}} {
		if at.given == "" {
			continue
		}
		if _, err := netip.ParseAddrPort(at.given); err != nil {
			wrong(field, "%q is no ADDRESS:PORT such as 0.0.0.0:10256", at.given)
		}
		*at.to = at.given
	}
	c.BindAddressHardFail = f.BindAddressHardFail
	c.DetectLocal = detectLocalOf(&f, wrong)
	if f.ClusterCIDR != "" {
		c.ClusterCIDRs = ranges("clusterCIDR", strings.Split(f.ClusterCIDR, ","), wrong)
	}
	switch {
	case len(f.NodePortAddresses) == 1 && f.NodePortAddresses[0] == primary:
		if len(c.NodeIPs) == 0 {
			wrong("nodePortAddresses", "%q: this node's addresses are not known: give ranges", primary)
		}
		c.NodePortAddresses = nil
		for _, ip := range c.NodeIPs {
			c.NodePortAddresses = append(c.NodePortAddresses, netip.PrefixFrom(ip, ip.BitLen()))
		}
	case len(f.NodePortAddresses) > 0:
		c.NodePortAddresses = ranges("nodePortAddresses", f.NodePortAddresses, wrong)
	}
	c.Conntrack = conntrackOf(f.Conntrack)
	c.Ignored = ignored(&f, c.Mode)
	return c, errors.Join(errs...)
}

// primary, alone in nodePortAddresses, is the node's own addresses.
const primary = "primary"

// ignored names the fields that are given and have no effect: they are of what
// the whole process decides, or of other modes and systems.
func ignored(f *v1alpha1.KubeProxyConfiguration, mode Mode) []string {
	var out []string
	for field, given := range map[string]bool{
		"featureGates": len(f.FeatureGates) > 0, "clientConnection": f.ClientConnection != (componentconfig.ClientConnectionConfiguration{}),
		"logging": f.Logging.Format != "" || f.Logging.Verbosity != 0 || len(f.Logging.VModule) > 0, "bindAddress": f.BindAddress != "",
		"enableProfiling": f.EnableProfiling, "showHiddenMetricsForVersion": f.ShowHiddenMetricsForVersion != "",
		"ipvs": mode != IPVS && !reflect.DeepEqual(f.IPVS, v1alpha1.KubeProxyIPVSConfiguration{}), "winkernel": f.Winkernel != (v1alpha1.KubeProxyWinkernelConfiguration{}),
		"detectLocal.bridgeInterface":     f.DetectLocalMode != v1alpha1.LocalMode(BridgeInterface) && f.DetectLocal.BridgeInterface != "",
		"detectLocal.interfaceNamePrefix": f.DetectLocalMode != v1alpha1.LocalMode(InterfaceNamePrefix) && f.DetectLocal.InterfaceNamePrefix != "", "oomScoreAdj": f.OOMScoreAdj != nil,
		"configSyncPeriod": f.ConfigSyncPeriod.Duration != 0, "portRange": f.PortRange != "", "windowsRunAsService": f.WindowsRunAsService,
	} {
		if given {
			out = append(out, field)
		}
	}
	slices.Sort(out)
	return out
}

// rules are the fields that both modes have.
type rules struct {
	field         string
	bit           *int32
	all           bool
	least, period metav1.Duration
}

func (r rules) set(c *Config, wrong func(field, format string, args ...any)) {
	c.MasqueradeAll = c.MasqueradeAll || r.all
	if r.bit != nil {
		bit := int(*r.bit)
		if bit < 0 || bit > maxMasqueradeBit {
			wrong(r.field+".masqueradeBit", "%d: want 0 to %d", bit, maxMasqueradeBit)
		}
		c.MasqueradeBit = &bit
	}
	for name, d := range map[string]struct {
		given time.Duration
		to    *time.Duration
	}{"minSyncPeriod": {r.least.Duration, &c.MinSyncPeriod}, "syncPeriod": {r.period.Duration, &c.SyncPeriod}} {
		if d.given < 0 {
			wrong(r.field+"."+name, "%s: want it above zero", d.given)
		}
		if d.given > 0 {
			*d.to = d.given
		}
	}
}

// ipvsOf are the options of the mode ipvs.
func ipvsOf(f *v1alpha1.KubeProxyIPVSConfiguration, wrong func(field, format string, args ...any)) ipvs.Options {
	out := ipvs.Options{
		Scheduler: f.Scheduler, StrictARP: f.StrictARP, Exclude: ranges("ipvs.excludeCIDRs", f.ExcludeCIDRs, wrong),
		TCPTimeout: f.TCPTimeout.Duration, TCPFinTimeout: f.TCPFinTimeout.Duration, UDPTimeout: f.UDPTimeout.Duration,
	}
	if known := ipvs.Schedulers(); f.Scheduler != "" && !slices.Contains(known, f.Scheduler) {
		wrong("ipvs.scheduler", "%q is not known: want one of %s", f.Scheduler, strings.Join(known, ", "))
	}
	for name, d := range map[string]time.Duration{"tcpTimeout": out.TCPTimeout, "tcpFinTimeout": out.TCPFinTimeout, "udpTimeout": out.UDPTimeout} {
		if d < 0 {
			wrong("ipvs."+name, "%s: want it above zero", d)
		}
	}
	return out
}

// maxInterfaceName is how long the kernel lets a link's name be.
const maxInterfaceName = 15

func detectLocalOf(f *v1alpha1.KubeProxyConfiguration, wrong func(field, format string, args ...any)) DetectLocal {
	out := DetectLocal{Mode: LocalMode(f.DetectLocalMode)}
	field := ""
	switch out.Mode {
	case "", ClusterCIDR, NodeCIDR:
		return out
	case BridgeInterface:
		field, out.Interface = "detectLocal.bridgeInterface", f.DetectLocal.BridgeInterface
	case InterfaceNamePrefix:
		field, out.Interface = "detectLocal.interfaceNamePrefix", f.DetectLocal.InterfaceNamePrefix
	default:
		wrong("detectLocalMode", "%q is not known: want ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix", f.DetectLocalMode)
		return out
	}
	// The name becomes part of rules.
	if out.Interface == "" || len(out.Interface) > maxInterfaceName || strings.ContainsFunc(out.Interface, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("/:+*\"\\", r)
	}) {
		wrong(field, "%q: want a link's name, or its beginning, of 1 to %d letters", out.Interface, maxInterfaceName)
	}
	return out
}

func ranges(field string, list []string, wrong func(field, format string, args ...any)) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			wrong(field, "%q is no range such as 10.0.0.0/8", text)
			continue
		}
		out = append(out, p.Masked())
	}
	return out
}

func conntrackOf(f v1alpha1.KubeProxyConntrackConfiguration) Conntrack {
	seconds := func(d *metav1.Duration) time.Duration {
		if d == nil {
			return 0
		}
		return d.Duration
	}
	out := Conntrack{
		TCPEstablished: seconds(f.TCPEstablishedTimeout), TCPCloseWait: seconds(f.TCPCloseWaitTimeout), TCPBeLiberal: f.TCPBeLiberal,
		UDP: f.UDPTimeout.Duration, UDPStream: f.UDPStreamTimeout.Duration,
	}
	if f.MaxPerCore != nil {
		out.MaxPerCore = int(*f.MaxPerCore)
	}
	if f.Min != nil {
		out.Min = int(*f.Min)
	}
	return out
}
