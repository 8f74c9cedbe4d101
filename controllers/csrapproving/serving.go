package csrapproving

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	certs "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"

	"skiff/controllers/csrsigning"
)

const (
	nodeUser   = "system:node:"
	nodesGroup = "system:nodes"
	// controlPlaneLabel cannot be set by a kubelet: the admission of its own node refuses it.
	controlPlaneLabel = "node-role.kubernetes.io/control-plane"
)

// Known is what a request for a serving certificate is held against.
type Known struct {
	Nodes []*v1.Node
	// Servers are the endpoint slices of the Service kubernetes in default.
	Servers []*discovery.EndpointSlice
	// Services are the ranges of Services' addresses.
	Services []netip.Prefix
}

// Serving tells whether a request is a kubelet's for its serving certificate, and
// why it may not have it. A kubelet writes its node's addresses itself, so they
// alone prove nothing. A certificate is for the node's own name, and for addresses
// of the node that cannot be used to pose as something else: that are of no other
// node, of no API server unless the node is one, and of no Service.
func Serving(r *certs.CertificateSigningRequest, req *x509.CertificateRequest, k Known) (is bool, why error) {
	if r.Spec.SignerName != certs.KubeletServingSignerName {
		return false, nil
	}
	if err := csrsigning.ValidateKubeletServing(req, r.Spec.Usages); err != nil {
		return true, err
	}
	name, ok := strings.CutPrefix(r.Spec.Username, nodeUser)
	if !ok || !slices.Contains(r.Spec.Groups, nodesGroup) {
		return true, fmt.Errorf("the requester %q is no node", r.Spec.Username)
	}
	if req.Subject.CommonName != r.Spec.Username {
		return true, fmt.Errorf("the certificate is for %q, the requester is %q", req.Subject.CommonName, r.Spec.Username)
	}
	at := slices.IndexFunc(k.Nodes, func(n *v1.Node) bool { return n.Name == name })
	if at < 0 {
		return true, fmt.Errorf("there is no node %q yet", name)
	}
	node := k.Nodes[at]
	for _, dns := range req.DNSNames {
		if dns != name {
			return true, fmt.Errorf("the name %q is not the node's", dns)
		}
	}
	for _, ip := range req.IPAddresses {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			return true, fmt.Errorf("%v is no address", ip)
		}
		if err := ownAddress(addr.Unmap(), node, k); err != nil {
			return true, err
		}
	}
	return true, nil
}

// ownAddress says why an address may not be in the node's certificate.
func ownAddress(a netip.Addr, node *v1.Node, k Known) error {
	if a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return fmt.Errorf("the address %s is no node's", a)
	}
	if !addresses(node)[a] {
		return fmt.Errorf("the address %s is not among those of node %q", a, node.Name)
	}
	for _, other := range k.Nodes {
		if other.Name != node.Name && addresses(other)[a] {
			return fmt.Errorf("the address %s is also that of node %q", a, other.Name)
		}
	}
	for _, p := range k.Services {
		if p.Contains(a) {
			return fmt.Errorf("the address %s is in the range of Services %s", a, p)
		}
	}
	if _, master := node.Labels[controlPlaneLabel]; master {
		return nil
	}
	for _, s := range k.Servers {
		for _, e := range s.Endpoints {
			if slices.ContainsFunc(e.Addresses, func(text string) bool { return parsed(text) == a }) {
				return fmt.Errorf("the address %s is that of an API server", a)
			}
		}
	}
	return nil
}

func parsed(text string) netip.Addr {
	ip := net.ParseIP(text)
	a, _ := netip.AddrFromSlice(ip) // none is no node's
	return a.Unmap()
}

func addresses(n *v1.Node) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, a := range n.Status.Addresses {
		if a.Type == v1.NodeInternalIP || a.Type == v1.NodeExternalIP {
			out[parsed(a.Address)] = true
		}
	}
	return out
}
