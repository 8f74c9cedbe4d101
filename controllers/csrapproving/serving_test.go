package csrapproving

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/netip"
	"strings"
	"testing"

	certs "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestServing(t *testing.T) {
	node := func(name string, master bool, ips ...string) *v1.Node {
		n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if master {
			n.Labels = map[string]string{controlPlaneLabel: ""}
		}
		for _, ip := range ips {
			n.Status.Addresses = append(n.Status.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip})
		}
		return n
	}
	known := Known{
		Nodes:    []*v1.Node{node("a", false, "192.0.2.1", "192.0.2.9", "10.96.0.1", "127.0.0.1", "192.0.2.2"), node("b", false, "192.0.2.2"), node("m", true, "192.0.2.9")},
		Servers:  []*discovery.EndpointSlice{{Endpoints: []discovery.Endpoint{{Addresses: []string{"192.0.2.9"}}}}},
		Services: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
	}
	// Another node has the API server's address for the test of it alone.
	alone := known
	alone.Nodes = known.Nodes[:1]
	for name, tc := range map[string]struct {
		user  string
		names []string
		ips   []string
		known Known
		cn    string
		want  string
	}{
		"its own":                      {user: "system:node:a", names: []string{"a"}, ips: []string{"192.0.2.1"}, known: known},
		"a master's":                   {user: "system:node:m", names: []string{"m"}, ips: []string{"192.0.2.9"}, known: Known{Nodes: known.Nodes[2:], Servers: known.Servers}},
		"another user":                 {user: "eve", cn: "system:node:a", names: []string{"a"}, known: known, want: "is no node"},
		"another node":                 {user: "system:node:a", cn: "system:node:b", names: []string{"b"}, known: known, want: "the requester is"},
		"a node that is not there":     {user: "system:node:x", names: []string{"x"}, known: known, want: "there is no node"},
		"another name":                 {user: "system:node:a", names: []string{"kubernetes.default.svc"}, known: known, want: "is not the node's"},
		"an address it does not have":  {user: "system:node:a", ips: []string{"192.0.2.7"}, known: known, want: "is not among those of node"},
		"an address of another node":   {user: "system:node:a", ips: []string{"192.0.2.2"}, known: known, want: `is also that of node "b"`},
		"the address of an API server": {user: "system:node:a", ips: []string{"192.0.2.9"}, known: alone, want: "is that of an API server"},
		"the address of a Service":     {user: "system:node:a", ips: []string{"10.96.0.1"}, known: known, want: "is in the range of Services"},
		"loopback":                     {user: "system:node:a", ips: []string{"127.0.0.1"}, known: known, want: "is no node's"},
		"nothing":                      {user: "system:node:a", known: known, want: "subjectAltName is required"},
	} {
		t.Run(name, func(t *testing.T) {
			cn := tc.cn
			if cn == "" {
				cn = tc.user
			}
			req := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn, Organization: []string{nodesGroup}}, DNSNames: tc.names}
			for _, ip := range tc.ips {
				req.IPAddresses = append(req.IPAddresses, net.ParseIP(ip))
			}
			r := &certs.CertificateSigningRequest{Spec: certs.CertificateSigningRequestSpec{SignerName: certs.KubeletServingSignerName,
				Username: tc.user, Groups: []string{nodesGroup}, Usages: []certs.KeyUsage{certs.UsageDigitalSignature, certs.UsageServerAuth}}}
			is, err := Serving(r, req, tc.known)
			if !is {
				t.Fatal("it is not seen as one for a serving certificate")
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
