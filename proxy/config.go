// Package proxy is kube-proxy: it programs the packet filter so that Services
// answer on their addresses.
//
// Changes of Services and EndpointSlices go into a table (proxy/state, pure);
// a writer (proxy/iptables, proxy/nftables, proxy/ipvs) brings the kernel to it. New only
// validates; Run blocks and joins all goroutines. The rules stay when Run ends,
// so that a restart interrupts no traffic; Clean removes them.
package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"

	"skiff/proxy/ipvs"
)

// Mode is how the packet filter is programmed.
type Mode string

// The modes.
const (
	IPTables Mode = "iptables"
	NFTables Mode = "nftables"
	IPVS     Mode = "ipvs"
)

// LocalMode is by what packets of pods are known.
type LocalMode string

// The ways: the ranges of all pods, the range of this node's pods, which its Node
// object has, or the links that they come in by.
const (
	ClusterCIDR         LocalMode = "ClusterCIDR"
	NodeCIDR            LocalMode = "NodeCIDR"
	BridgeInterface     LocalMode = "BridgeInterface"
	InterfaceNamePrefix LocalMode = "InterfaceNamePrefix"
)

// DetectLocal is how packets of pods are known. The zero value is ClusterCIDR.
type DetectLocal struct {
	Mode LocalMode
	// Interface is the bridge's name in the mode BridgeInterface, and how the names
	// begin in the mode InterfaceNamePrefix.
	Interface string
}

// Conntrack is how the kernel follows connections; zero leaves its own value.
type Conntrack struct {
	// MaxPerCore entries for each core, and Min at least.
	MaxPerCore, Min              int
	TCPEstablished, TCPCloseWait time.Duration
	TCPBeLiberal                 bool
	UDP, UDPStream               time.Duration
}

// Config is what the proxy needs. The zero value of each optional field is the
// default of KubeProxyConfiguration.
type Config struct {
	Client kubernetes.Interface
	// NodeName is this node; its zone label guides topology hints.
	NodeName string
	// Mode: default iptables.
	Mode Mode
	// ClusterCIDRs are the pods' ranges, of either family.
	ClusterCIDRs []netip.Prefix
	// DetectLocal is how packets of pods are told from others'.
	DetectLocal DetectLocal
	// IPv4 and IPv6 say which families the node serves; neither is IPv4.
	IPv4, IPv6 bool
	// MasqueradeAll and MasqueradeBit (nil: 14) as upstream's.
	MasqueradeAll bool
	MasqueradeBit *int
	// NodeIPs are this node's addresses, its primary ones of either family.
	NodeIPs []netip.Addr
	// NodePortAddresses limit node ports to local addresses in these ranges;
	// empty is all.
	NodePortAddresses []netip.Prefix
	// LocalhostNodePorts lets node ports answer on 127.0.0.1; default true in
	// iptables mode.
	LocalhostNodePorts *bool
	// MinSyncPeriod is the least time between two writes (default: as long as the
	// last one took); SyncPeriod is how often the rules are checked, and written
	// whole where they are not there (default 30 s).
	MinSyncPeriod, SyncPeriod time.Duration
	// HealthzAddress is the address of /healthz and /livez, such as
	// "0.0.0.0:10256"; empty for none. MetricsAddress likewise.
	HealthzAddress, MetricsAddress string
	// Flags are what /flagz shows.
	Flags map[string]string
	// BindAddressHardFail ends the proxy where one of these is taken; else it
	// goes without, as leading packets matters more.
	BindAddressHardFail bool
	// Ignored are fields of a KubeProxyConfiguration that have no effect here; New
	// logs them.
	Ignored   []string
	Conntrack Conntrack
	// IPVS are the options of that mode.
	IPVS   ipvs.Options
	Events events.EventRecorder
	Log    *slog.Logger
}

func (c Config) complete() (Config, error) {
	var errs []error
	if c.Client == nil {
		errs = append(errs, errors.New("proxy: Client is nil: give the API client"))
	}
	if c.NodeName == "" {
		errs = append(errs, errors.New("proxy: NodeName is empty: give the node's name"))
	}
	switch c.Mode {
	case "":
		c.Mode = IPTables
	case IPTables, NFTables:
	case IPVS:
		if err := ipvs.Available(); err != nil {
			// As upstream where the kernel has none of it.
			c.Mode = IPTables
			log := c.Log
			if log == nil {
				log = slog.Default()
			}
			log.Warn("the mode ipvs is not there; iptables is used", "err", err)
		}
	default:
		errs = append(errs, fmt.Errorf("proxy: mode %q is not known: want iptables, nftables or ipvs", c.Mode))
	}
	switch d := c.DetectLocal; d.Mode {
	case "":
		c.DetectLocal.Mode = ClusterCIDR
	case ClusterCIDR, NodeCIDR:
	case BridgeInterface, InterfaceNamePrefix:
		if d.Interface == "" {
			errs = append(errs, fmt.Errorf("proxy: detectLocalMode %s: the interface's name is empty", d.Mode))
		}
	default:
		errs = append(errs, fmt.Errorf("proxy: detectLocalMode %q is not known: want ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix", d.Mode))
	}
	if !c.IPv4 && !c.IPv6 {
		c.IPv4 = true
	}
	if c.MasqueradeBit == nil {
		bit := 14
		c.MasqueradeBit = &bit
	}
	if c.LocalhostNodePorts == nil {
		yes := true
		c.LocalhostNodePorts = &yes
	}
	if c.SyncPeriod == 0 {
		c.SyncPeriod = 30 * time.Second
	}
	if c.SyncPeriod < c.MinSyncPeriod {
		errs = append(errs, fmt.Errorf("proxy: syncPeriod %s must not be less than minSyncPeriod %s", c.SyncPeriod, c.MinSyncPeriod))
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if len(c.Ignored) > 0 {
		c.Log.Warn("fields of the KubeProxyConfiguration have no effect", "fields", c.Ignored)
	}
	return c, errors.Join(errs...)
}
