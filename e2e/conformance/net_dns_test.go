package conformance

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// dig waits until DNS gives a pod these records, over UDP and over TCP.
func (s *space) dig(from, kind, name string, want ...string) {
	s.t.Helper()
	slices.Sort(want)
	for _, network := range []string{"udp", "tcp"} {
		s.eventually(60*time.Second, fmt.Sprintf("%s %s over %s", kind, name, network), func() error {
			out, err := s.exec(from, "main", "/probe", "dig", network, kind, name)
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			var got []string
			for line := range strings.Lines(out) {
				if record, ok := strings.CutPrefix(strings.TrimSpace(line), kind+" "); ok {
					got = append(got, record)
				}
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				return fmt.Errorf("%q, want %v", out, want)
			}
			return nil
		})
	}
}

// reverse is the name of an address for PTR.
func (s *space) reverse(ip string) string {
	s.t.Helper()
	a, err := netip.ParseAddr(ip)
	s.must(err)
	b := a.As4()
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", b[3], b[2], b[1], b[0])
}

// Conformance: [sig-network] DNS should provide DNS for the cluster
// Conformance: [sig-network] DNS should provide DNS for services
// Conformance: [sig-network] DNS should resolve DNS of partial qualified names for services [LinuxOnly]
func TestNetDNSServices(t *testing.T) {
	s := parallel(t)
	s.clientPod()
	p := s.ready(probePod("web"))
	headless := service("headless", corev1.ServiceTypeClusterIP)
	headless.Spec.ClusterIP = corev1.ClusterIPNone
	headless.Spec.Selector = p.Labels
	s.service(headless)
	regular := service("regular", corev1.ServiceTypeClusterIP)
	regular.Spec.Selector = p.Labels
	regular = s.service(regular)
	kube, err := s.client.CoreV1().Services("default").Get(s.ctx, "kubernetes", metav1.GetOptions{})
	s.must(err)
	for _, tc := range []struct{ service, namespace, ip string }{
		{"kubernetes", "default", kube.Spec.ClusterIP}, {"headless", s.name, p.Status.PodIP}, {"regular", s.name, regular.Spec.ClusterIP},
	} {
		name := tc.service + "." + tc.namespace
		for _, n := range []string{name, name + ".svc", name + ".svc.cluster.local", name + ".svc.cluster.local."} {
			s.dig("client", "A", n, tc.ip)
		}
		if tc.namespace == s.name {
			s.dig("client", "A", tc.service, tc.ip)
		}
	}
	domain := s.name + ".svc.cluster.local."
	dashed := strings.ReplaceAll(p.Status.PodIP, ".", "-")
	for _, suffix := range []string{"." + s.name + ".svc", "." + s.name + ".svc.cluster.local."} {
		s.dig("client", "SRV", "_http._tcp.regular"+suffix, "80 regular."+domain)
		s.dig("client", "SRV", "_http._tcp.headless"+suffix, "8080 "+dashed+".headless."+domain)
	}
	s.dig("client", "A", dashed+"."+s.name+".pod.cluster.local.", p.Status.PodIP)
	s.dig("client", "PTR", s.reverse(regular.Spec.ClusterIP), "regular."+domain)
	s.dig("client", "PTR", s.reverse(p.Status.PodIP), dashed+".headless."+domain, dashed+".regular."+domain)
	if out, err := s.exec("client", "main", "/probe", "dig", "udp", "A", "absent."+domain); err == nil {
		t.Errorf("a service that is not there is %q", out)
	}
}

// Conformance: [sig-network] DNS should provide DNS for pods for Hostname
// Conformance: [sig-network] DNS should provide DNS for pods for Subdomain
// Conformance: [sig-network] DNS should provide /etc/hosts entries for the cluster
func TestNetDNSPods(t *testing.T) {
	s := parallel(t)
	headless := service("sub", corev1.ServiceTypeClusterIP)
	headless.Spec.ClusterIP = corev1.ClusterIPNone
	s.service(headless)
	p := probePod("client", "serve")
	p.Labels["app"] = "sub"
	p.Spec.Hostname, p.Spec.Subdomain = "querier", "sub"
	p = s.ready(p)
	fqdn := "querier.sub." + s.name + ".svc.cluster.local"
	s.dig("client", "A", fqdn+".", p.Status.PodIP)
	s.dig("client", "A", "querier.sub", p.Status.PodIP)
	s.dig("client", "A", "sub."+s.name+".svc.cluster.local.", p.Status.PodIP)
	s.dig("client", "SRV", "_http._tcp.sub", "8080 "+fqdn+".")
	s.dig("client", "PTR", s.reverse(p.Status.PodIP), fqdn+".")
	// The hosts file has both names, whoever serves DNS.
	hosts := s.mustExec("client", "main", "/probe", "cat", "/etc/hosts")
	if want := p.Status.PodIP + "\t" + fqdn + "\tquerier"; !strings.Contains(hosts, want) {
		t.Errorf("/etc/hosts is %q, want a line %q", hosts, want)
	}
	if out := s.mustExec("client", "main", "/probe", "hostname"); out != "querier\n" {
		t.Errorf("the host name is %q", out)
	}
	for _, name := range []string{"querier", fqdn} {
		if out := s.mustExec("client", "main", "/probe", "lookup", name); strings.TrimSpace(out) != p.Status.PodIP {
			t.Errorf("%s is %q, want %s", name, out, p.Status.PodIP)
		}
	}
}

// Conformance: [sig-network] DNS should provide DNS for ExternalName services
func TestNetDNSExternalName(t *testing.T) {
	s := parallel(t)
	s.clientPod()
	s.service(external("web", "foo.example.com"))
	name := "web." + s.name + ".svc.cluster.local."
	s.dig("client", "CNAME", name, "foo.example.com.")
	s.updateService("web", func(svc *corev1.Service) { svc.Spec.ExternalName = "bar.example.com" })
	s.dig("client", "CNAME", name, "bar.example.com.")
	svc := s.updateService("web", func(svc *corev1.Service) {
		svc.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}
	})
	s.dig("client", "A", name, svc.Spec.ClusterIP)
}

// Conformance: [sig-network] DNS should support configurable pod DNS nameservers
func TestNetDNSConfig(t *testing.T) {
	config := &corev1.PodDNSConfig{
		Nameservers: []string{"1.1.1.1"}, Searches: []string{"resolv.conf.local"},
		Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "edns0"}},
	}
	for _, tc := range []struct {
		name   string
		policy corev1.DNSPolicy
		config *corev1.PodDNSConfig
		host   bool
		has    []string
		hasNot []string
	}{
		{
			name: "None", policy: corev1.DNSNone, config: config,
			has: []string{"nameserver 1.1.1.1\n", "search resolv.conf.local\n", "ndots:2", "edns0"}, hasNot: []string{"cluster.local", "ndots:5"},
		},
		{
			name: "ClusterFirst", policy: corev1.DNSClusterFirst, config: config,
			has: []string{"nameserver 10.96.0.10\nnameserver 1.1.1.1\n", ".svc.cluster.local svc.cluster.local cluster.local", " resolv.conf.local\n", "ndots:2"}, hasNot: []string{"ndots:5"},
		},
		{name: "plain", policy: corev1.DNSClusterFirst, has: []string{"nameserver 10.96.0.10\n", "ndots:5"}},
		{name: "host network", policy: corev1.DNSClusterFirst, host: true, hasNot: []string{"10.96.0.10"}},
		{name: "ClusterFirstWithHostNet", policy: corev1.DNSClusterFirstWithHostNet, host: true, has: []string{"nameserver 10.96.0.10\n", "ndots:5"}},
		{name: "Default", policy: corev1.DNSDefault, hasNot: []string{"10.96.0.10", "cluster.local"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := parallel(t)
			p := probePod("pod", "cat", "/etc/resolv.conf")
			p.Spec.DNSPolicy, p.Spec.DNSConfig, p.Spec.HostNetwork = tc.policy, tc.config, tc.host
			out := s.output(p)
			for _, want := range tc.has {
				if !strings.Contains(out, want) {
					t.Errorf("/etc/resolv.conf is %q, want it with %q", out, want)
				}
			}
			for _, not := range tc.hasNot {
				if strings.Contains(out, not) {
					t.Errorf("/etc/resolv.conf is %q, want it without %q", out, not)
				}
			}
		})
	}
}

// TestNetDNSMetrics asks the metrics port that the Service kube-dns names.
func TestNetDNSMetrics(t *testing.T) {
	s := parallel(t)
	s.clientPod()
	svc, err := s.client.CoreV1().Services("kube-system").Get(s.ctx, "kube-dns", metav1.GetOptions{})
	s.must(err)
	s.dig("client", "A", "kubernetes.default", "10.96.0.1")
	s.eventually(30*time.Second, "metrics of the DNS server", func() error {
		out, err := s.exec("client", "main", "/probe", "get", "http://"+svc.Spec.ClusterIP+":9153/metrics")
		if err == nil && !strings.Contains(out, "coredns_dns_requests_total") {
			err = errors.New(out[:min(len(out), 300)])
		}
		return err
	})
}
