package local

import (
	"context"
	"net/netip"
	"strings"

	v1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"
)

// InstanceExists is true for every node: only an administrator knows that a
// machine is gone, and deletes its Node.
func (*Provider) InstanceExists(context.Context, *v1.Node) (bool, error) { return true, nil }

// InstanceShutdown is never known.
func (*Provider) InstanceShutdown(context.Context, *v1.Node) (bool, error) { return false, nil }

// InstanceMetadata is what the node says of itself, and where the configuration
// says that it is.
func (p *Provider) InstanceMetadata(_ context.Context, n *v1.Node) (*cloudprovider.InstanceMetadata, error) {
	id := n.Spec.ProviderID
	if id == "" {
		id = Name + "://" + n.Name
	}
	return &cloudprovider.InstanceMetadata{
		ProviderID:    id,
		InstanceType:  first(n.Labels[v1.LabelInstanceTypeStable], Name),
		NodeAddresses: addresses(n),
		Zone:          first(n.Labels[v1.LabelTopologyZone], p.cfg.Zones[n.Name], p.cfg.Zone),
		Region:        first(n.Labels[v1.LabelTopologyRegion], p.cfg.Region),
	}, nil
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// addresses are the node's; one that waits for its cloud has only told its
// kubelet's choice.
func addresses(n *v1.Node) []v1.NodeAddress {
	var out []v1.NodeAddress
	hasIP := false
	for _, a := range n.Status.Addresses {
		hasIP = hasIP || a.Type == v1.NodeInternalIP
		out = append(out, a)
	}
	if hasIP {
		return out
	}
	for _, text := range strings.Split(n.Annotations[api.AnnotationAlphaProvidedIPAddr], ",") {
		if ip, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
			out = append(out, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip.String()})
			hasIP = true
		}
	}
	if !hasIP {
		return nil
	}
	for _, a := range out {
		if a.Type == v1.NodeHostName {
			return out
		}
	}
	return append(out, v1.NodeAddress{Type: v1.NodeHostName, Address: first(n.Labels[v1.LabelHostname], n.Name)})
}
