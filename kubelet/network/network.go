// Package network gives pods their network: by the CNI plugins of a node that
// has a CNI configuration, else by the built-in point-to-point network, with
// addresses from the node's pod CIDRs, host ports, masquerading, and an overlay
// between the nodes.
//
// All of it works in the network namespace that the process itself runs in,
// which is the node's.
package network

import (
	"context"
	"errors"
	"net/netip"
)

// Protocol of a port.
type Protocol string

// The protocols.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// PortMapping opens a port of the host for a pod.
type PortMapping struct {
	Protocol      Protocol
	HostPort      uint16
	ContainerPort uint16
	// HostIP narrows it to one of the host's addresses; the zero value is any.
	HostIP netip.Addr
}

// Bandwidth limits a pod in bits per second; 0 is no limit.
type Bandwidth struct {
	Ingress, Egress uint64
}

// Pod is what a plugin needs to know of a pod.
type Pod struct {
	// ID is the sandbox's.
	ID                   string
	Namespace, Name, UID string
	// NetNSPath is the pod's network namespace; empty when it is gone already.
	NetNSPath    string
	PortMappings []PortMapping
	Bandwidth    Bandwidth
	Annotations  map[string]string
	// DNS and Labels go to CNI plugins that want them.
	DNSServers, DNSSearches, DNSOptions []string
}

// Result is the network that a pod has got.
type Result struct {
	// IPs are the pod's addresses, the primary first.
	IPs []netip.Addr `json:"ips"`
	// Interface is the name of the pod's interface.
	Interface string `json:"interface,omitempty"`
	MAC       string `json:"mac,omitempty"`
}

// ErrNotReady says that pods cannot have a network yet.
var ErrNotReady = errors.New("network is not ready")

// Plugin gives networks to pods. Its methods may run at the same time for
// different pods.
type Plugin interface {
	// Setup connects a pod. Called again for the same pod it starts afresh.
	Setup(ctx context.Context, pod Pod) (Result, error)
	// Teardown undoes Setup, and is no error where there is nothing to undo.
	Teardown(ctx context.Context, pod Pod) error
	// Check tells whether a pod's network is still whole.
	Check(ctx context.Context, pod Pod) error
	// Status is nil when pods can be set up, else says why not.
	Status(ctx context.Context) error
}

// Reconciler is a Plugin that can free what belongs to pods that are gone.
type Reconciler interface {
	// Reconcile frees everything that is of no pod in live, which are sandbox IDs.
	Reconcile(ctx context.Context, live []string) error
}
