package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDualStack is a cluster of two nodes whose pods and Services have addresses
// of both families.
//
// Covers: net.dual-stack
func TestDualStack(t *testing.T) {
	c := prepare(t)
	if err := c.Configure(`apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
networking: {podSubnet: "10.244.0.0/16,fd00:244::/56", serviceSubnet: "10.96.0.0/16,fd00:96::/112"}
`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	s := c.space(t, "e2e-dual-stack")
	s.apply(peers + `apiVersion: v1
kind: Service
metadata: {name: prefer}
spec: {type: NodePort, ipFamilyPolicy: PreferDualStack, selector: {app: peer}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: require}
spec: {ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4], selector: {app: peer}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {ipFamilyPolicy: SingleStack, ipFamilies: [IPv6], selector: {app: peer}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, ipFamilyPolicy: RequireDualStack, selector: {app: peer}, ports: [{port: 80, targetPort: 8080}]}
` + "---\n" + pod("client", `"sleep"`, ""))
	s.run("rollout", "status", "daemonset/peer", "--timeout=60s")
	s.ready("pod/client")
	addresses := func(object, path string) []netip.Addr {
		t.Helper()
		var out []netip.Addr
		for _, text := range strings.Fields(s.field(object, path)) {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				t.Fatalf("%s %s: %v", object, path, err)
			}
			out = append(out, ip)
		}
		return out
	}
	families := func(what string, ips []netip.Addr, six ...bool) {
		t.Helper()
		var got []bool
		for _, ip := range ips {
			got = append(got, ip.Is6())
		}
		if !slices.Equal(got, six) {
			t.Fatalf("%s has the addresses %v, want of IPv6: %v", what, ips, six)
		}
	}
	peers := make(map[string][]netip.Addr)
	for _, name := range strings.Fields(s.run("get", "pods", "-l", "app=peer", "-o", "jsonpath={.items[*].metadata.name}")) {
		peers[name] = addresses("pod/"+name, ".status.podIPs[*].ip")
		families("pod "+name, peers[name], false, true)
	}
	services := make(map[string][]netip.Addr)
	for name, six := range map[string][]bool{"prefer": {false, true}, "require": {true, false}, "six": {true}} {
		services[name] = addresses("service/"+name, ".spec.clusterIPs[*]")
		families("Service "+name, services[name], six...)
	}
	url := func(ip netip.Addr, port string) string {
		return "http://" + net.JoinHostPort(ip.String(), port) + "/hostname"
	}
	for from := range peers {
		for to, ips := range peers {
			for _, ip := range ips {
				s.until(20*time.Second, to, "exec", from, "--", "/probe", "get", url(ip, "8080"))
			}
		}
		for _, ips := range services {
			for _, ip := range ips {
				s.until(20*time.Second, "peer-", "exec", from, "--", "/probe", "get", url(ip, "80"))
			}
		}
		s.until(20*time.Second, "peer-", "exec", from, "--", "/probe", "get", "http://six/hostname")
	}
	// Node ports answer on every address of a node.
	port := s.field("service/prefer", ".spec.ports[0].nodePort")
	for name := range peers {
		node := s.field("pod/"+name, ".spec.nodeName")
		ips := addresses("node/"+node, `.status.addresses[?(@.type=="InternalIP")].address`)
		families("node "+node, ips, false, true)
		for _, ip := range ips {
			s.until(20*time.Second, "peer-", "exec", "client", "--", "/probe", "get", url(ip, port))
			s.eventually(20*time.Second, "an answer by the node port of "+ip.String(), func() error {
				_, err := fetch(url(ip, port))
				return err
			})
		}
	}
	dig := func(kind, name string, want ...netip.Addr) {
		t.Helper()
		s.eventually(20*time.Second, kind+" records of "+name, func() error {
			out, err := s.try("", "exec", "client", "--", "/probe", "dig", "udp", kind, name+"."+s.name+".svc.cluster.local.")
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			for _, ip := range want {
				if !strings.Contains(out, ip.String()) {
					return fmt.Errorf("want %s in %s", ip, out)
				}
			}
			return nil
		})
	}
	dig("AAAA", "six", services["six"]...)
	dig("A", "prefer", services["prefer"][0])
	dig("AAAA", "prefer", services["prefer"][1])
	var four, six []netip.Addr
	for _, ips := range peers {
		four, six = append(four, ips[0]), append(six, ips[1])
	}
	dig("A", "headless", four...)
	dig("AAAA", "headless", six...)

	// A policy closes both families, and opens one range of IPv6.
	s.apply(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: none}
spec: {podSelector: {matchLabels: {app: peer}}, policyTypes: [Ingress]}
`)
	reaches := func(ip netip.Addr, want bool) {
		t.Helper()
		s.eventually(60*time.Second, fmt.Sprintf("an answer of %s: %v", ip, want), func() error {
			out, err := s.try("", "exec", "client", "--", "/probe", "get", url(ip, "8080"))
			if (err == nil) != want {
				return fmt.Errorf("error %v: %s", err, out)
			}
			return nil
		})
	}
	for _, ips := range peers {
		reaches(ips[0], false)
		reaches(ips[1], false)
	}
	s.apply(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: six}
spec: {podSelector: {matchLabels: {app: peer}}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: "fd00:244::/56"}}]}]}
`)
	for _, ips := range peers {
		reaches(ips[0], false)
		reaches(ips[1], true)
	}
}

// TestHostGateway is a cluster whose nodes route pods' packets as they are.
//
// Covers: net.host-gw
func TestHostGateway(t *testing.T) {
	c := prepare(t)
	if err := c.Configure("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking: {podBackend: host-gw}\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	serviceAcrossNodes(c.space(t, "e2e-host-gateway"))
}

// TestWireGuardAndIPVS is a cluster whose nodes encrypt pods' packets, and lead
// Services by virtual servers: what few kernels have.
//
// Covers: net.wireguard, proxy.ipvs
func TestWireGuardAndIPVS(t *testing.T) {
	if out, err := exec.Command("unshare", "--net", "ip", "link", "add", "wg0", "type", "wireguard").CombinedOutput(); err != nil {
		t.Skipf("the kernel has no WireGuard: %s", out)
	}
	c := prepare(t)
	if err := c.Configure(`apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
networking: {podBackend: wireguard}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	s := c.space(t, "e2e-wireguard")
	serviceAcrossNodes(s)
	serviceNodePort(s)
	keys := strings.Fields(s.run("get", "nodes", "-o", `jsonpath={.items[*].metadata.annotations.network\.skiff\.io/wireguard-public-key}`))
	if slices.Sort(keys); len(slices.Compact(keys)) != c.Nodes {
		t.Errorf("the keys of %d nodes are %q", c.Nodes, keys)
	}
}

// TestLoadBalancerPool is a cluster whose load balancers have addresses of their own
// on the nodes' link, which a node announces: another one once that is kept from load
// balancers, and the endpoint's where the policy is Local.
//
// Covers: service.load-balancer
func TestLoadBalancerPool(t *testing.T) {
	c := prepare(t)
	if err := c.Configure("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking: {loadBalancerPool: [198.18.0.1-198.18.255.254]}\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	s := c.space(t, "e2e-load-balancer-pool")
	nodes := strings.Fields(s.run("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
	first, err := netip.ParseAddr(s.field("node/"+nodes[0], ".status.addresses[0].address"))
	if err != nil {
		t.Fatal(err)
	}
	four := first.As4()
	four[3] = 200 // the nodes' own addresses are below
	address := netip.AddrFrom4(four).String()
	s.apply(peers + `apiVersion: v1
kind: Service
metadata: {name: balanced}
spec: {type: LoadBalancer, loadBalancerIP: ` + address + `, selector: {app: peer}, ports: [{port: 80, targetPort: 8080}]}
`)
	s.run("rollout", "status", "daemonset/peer", "--timeout=60s")
	answered := func(when string) {
		t.Helper()
		s.eventually(30*time.Second, "an answer of "+address+" "+when, func() error {
			if out, err := exec.Command("ip", "neigh", "flush", "to", address).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			_, err := fetch("http://" + address + "/hostname")
			return err
		})
	}
	answered("at first")
	for _, node := range nodes {
		const label = "node.kubernetes.io/exclude-from-external-load-balancers"
		s.run("label", "node", node, label+"=", "--overwrite")
		answered("without " + node)
		s.run("label", "node", node, label+"-")
	}
	s.run("patch", "service", "balanced", "-p", `{"spec":{"externalTrafficPolicy":"Local"}}`)
	answered("with the policy Local")
}
