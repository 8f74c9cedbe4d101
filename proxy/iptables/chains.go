// Package iptables writes the service table as iptables rules, in the chains and
// with the marks that upstream's kube-proxy uses, so that tools which look for
// them find them.
//
// Rules is pure: it makes the input of iptables-restore from a table. Writer
// feeds it to the kernel and keeps the base chains and jumps.
package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"skiff/proxy/state"
)

// Chains that every node has.
const (
	chainServices    = "KUBE-SERVICES"
	chainExternal    = "KUBE-EXTERNAL-SERVICES"
	chainNodePorts   = "KUBE-NODEPORTS"
	chainForward     = "KUBE-FORWARD"
	chainFirewall    = "KUBE-PROXY-FIREWALL"
	chainPostrouting = "KUBE-POSTROUTING"
	chainMarkMasq    = "KUBE-MARK-MASQ"
	// chainLocalhost keeps packets from the network away from 127.0.0.1.
	chainLocalhost = "KUBE-FIREWALL"
	chainCanary    = "KUBE-PROXY-CANARY"
)

// Prefixes of the chains of one service port or endpoint.
const (
	prefixCluster  = "KUBE-SVC-"
	prefixLocal    = "KUBE-SVL-"
	prefixExternal = "KUBE-EXT-"
	prefixFirewall = "KUBE-FW-"
	prefixEndpoint = "KUBE-SEP-"
)

// dynamicPrefixes are those of chains that come and go; none jumps to one of a
// prefix before its own.
func dynamicPrefixes() []string {
	return []string{prefixFirewall, prefixExternal, prefixCluster, prefixLocal, prefixEndpoint}
}

// hash is short enough for a chain name of 28 bytes.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}

func portHash(p *state.Port) string {
	return hash(p.Name.String(), strings.ToLower(string(p.Name.Protocol)))
}

func endpointChain(p *state.Port, e *state.Endpoint) string {
	return prefixEndpoint + hash(p.Name.String(), strings.ToLower(string(p.Name.Protocol)), e.Addr.String())
}
