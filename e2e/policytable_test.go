package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// peer is a pod of the table of policies.
type peer struct {
	namespace, name string
	labels          labels.Set
	ips             []netip.Addr
}

// port is one that each peer listens on, over both protocols.
type port struct {
	number   int32
	protocol v1.Protocol
}

func (p port) name() string {
	return fmt.Sprintf("serve-%d-%s", p.number, strings.ToLower(string(p.protocol)))
}

var tablePorts = []port{{80, v1.ProtocolTCP}, {81, v1.ProtocolTCP}, {80, v1.ProtocolUDP}, {81, v1.ProtocolUDP}}

// policyTable asks every port of every pod from every pod of three namespaces, under
// one policy after another, and compares with what the policies' definition says.
//
// Covers: net.policy
func policyTable(s *space) {
	nodes := strings.Fields(s.run("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
	var namespaces, pods strings.Builder
	spaces := map[string]labels.Set{}
	for _, letter := range []string{"p", "q", "r"} {
		ns := s.name + "-" + letter
		spaces[ns] = labels.Set{"ns": letter, "kubernetes.io/metadata.name": ns}
		fmt.Fprintf(&namespaces, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {ns: %s}}\n---\n", ns, letter)
		for i, name := range []string{"a", "b", "c"} {
			fmt.Fprintf(&pods, tablePod, name, ns, name, nodes[i%2])
		}
	}
	everywhere := func(manifest string) {
		s.t.Helper()
		if out, err := s.try(manifest, "apply", "--namespace=", "-f", "-"); err != nil {
			s.t.Fatalf("kubectl apply: %v: %s", err, out)
		}
	}
	everywhere(namespaces.String())
	s.t.Cleanup(func() {
		for ns := range spaces {
			if out, err := s.try("", "delete", "namespace", ns, "--wait=false"); err != nil {
				s.t.Errorf("delete namespace %s: %v: %s", ns, err, out)
			}
		}
	})
	for ns := range spaces {
		s.run("wait", "--namespace", ns, "--for=create", "--timeout=20s", "serviceaccount/default")
	}
	everywhere(pods.String())
	var peers []peer
	askers := make(map[string]asker)
	for ns := range spaces {
		s.run("wait", "--namespace", ns, "--for=condition=Ready", "--timeout=60s", "pods", "--all")
	}
	for _, line := range strings.Split(strings.TrimSpace(s.run("get", "pods", "-A", "-l", "table=policies", "-o",
		`jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name} {.status.podIPs[*].ip}{"\n"}{end}`)), "\n") {
		words := strings.Fields(line)
		if len(words) != 4 {
			s.t.Fatalf("pod %q, want an address of each family", line)
		}
		p := peer{namespace: words[0], name: words[1], labels: labels.Set{"pod": words[1], "table": "policies"}}
		for _, ip := range words[2:] {
			p.ips = append(p.ips, netip.MustParseAddr(ip))
		}
		peers = append(peers, p)
		askers[p.namespace+"."+p.name] = s.inside(p.namespace, p.name)
	}
	ranges := strings.Fields(s.run("get", "node", nodes[0], "-o", "jsonpath={.spec.podCIDRs[*]}"))
	target := peers[slices.IndexFunc(peers, func(p peer) bool { return p.namespace == s.name+"-p" && p.name == "a" })]
	fill := strings.NewReplacer("NODE4", ranges[0], "NODE6", ranges[1], "A4", target.ips[0].String(), "A6", target.ips[1].String(), "SPACE", s.name)
	var before []*networkingv1.NetworkPolicy
	for _, each := range policyCases {
		var policies []*networkingv1.NetworkPolicy
		var applied strings.Builder
		for i, text := range strings.Split(fill.Replace(each.policies), "\n") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			letter, spec, _ := strings.Cut(text, " ")
			np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: s.name + "-" + letter, Name: fmt.Sprint("p", i)}}
			if err := yaml.UnmarshalStrict([]byte(spec), &np.Spec); err != nil {
				s.t.Fatalf("%s: %v", each.name, err)
			}
			policies = append(policies, np)
			fmt.Fprintf(&applied, "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: %s, name: %s}\nspec: %s\n", np.Namespace, np.Name, spec)
		}
		// The policies of the case before that this one has not go; the others change.
		if len(policies) > 0 {
			everywhere(applied.String())
		}
		var gone strings.Builder
		for _, old := range before {
			if !slices.ContainsFunc(policies, func(np *networkingv1.NetworkPolicy) bool { return np.Namespace == old.Namespace && np.Name == old.Name }) {
				fmt.Fprintf(&gone, "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: %s, name: %s}\n", old.Namespace, old.Name)
			}
		}
		if gone.Len() > 0 {
			if out, err := s.try(gone.String(), "delete", "--namespace=", "-f", "-"); err != nil {
				s.t.Fatalf("%s: %v: %s", each.name, err, out)
			}
		}
		before = policies
		rules := definition{policies: policies, namespaces: spaces}
		var questions []question
		for _, from := range peers {
			for _, to := range peers {
				for _, p := range tablePorts {
					for i, ip := range to.ips {
						q := question{
							from:   from.namespace + "." + from.name,
							target: strings.ToLower(string(p.protocol)) + ":" + net.JoinHostPort(ip.String(), fmt.Sprint(p.number)),
							want:   []string{"-"},
						}
						if rules.allow(from, to, i, p) {
							q.want, q.sees = []string{to.name}, from.ips[i].String()
						}
						questions = append(questions, q)
					}
				}
			}
		}
		s.holds(each.name, askers, questions)
	}
}

const tablePod = `apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {pod: %s, table: policies}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  containers:
    - {name: first, image: probe, args: [serve, --http, ":80", --udp, ":80", --tcp, ""], ports: [{containerPort: 80, name: serve-80-tcp}, {containerPort: 80, protocol: UDP, name: serve-80-udp}]}
    - {name: second, image: probe, args: [serve, --http, ":81", --udp, ":81", --tcp, ""], ports: [{containerPort: 81, name: serve-81-tcp}, {containerPort: 81, protocol: UDP, name: serve-81-udp}]}
---
`

// policyCases have a policy a line: the namespace's letter and the spec.
var policyCases = []struct{ name, policies string }{
	{"none", ``},
	{"nothing in, nothing out", `
		p {podSelector: {}, policyTypes: [Ingress]}
		q {podSelector: {}, policyTypes: [Egress]}`},
	{"nothing in or out, but what another policy opens", `
		p {podSelector: {}, policyTypes: [Ingress, Egress]}
		p {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: r}}, podSelector: {matchLabels: {pod: b}}}]}]}
		p {podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: c}}}]}]}`},
	{"one pod of the namespace by a port's name", `
		p {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: serve-81-tcp}]}]}
		q {podSelector: {}, ingress: [{ports: [{port: serve-80-udp, protocol: UDP}]}]}`},
	{"all pods of a namespace, or those of a name everywhere", `
		r {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: SPACE-p}}}, {namespaceSelector: {}, podSelector: {matchLabels: {pod: a}}}]}]}
		p {podSelector: {}, policyTypes: [Ingress]}
		p {podSelector: {}, ingress: [{}]}
		q {podSelector: {}, policyTypes: [Egress], egress: [{}]}`},
	{"ranges without a node's, and without one address", `
		p {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [NODE4]}}]}]}
		q {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: "fd00:244::/56", except: ["NODE6"]}}]}]}
		q {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [A4/32]}}, {ipBlock: {cidr: "::/0", except: ["A6/128"]}}]}]}`},
	{"ranges of ports", `
		p {podSelector: {}, ingress: [{ports: [{port: 79, endPort: 80}, {port: 81, endPort: 90, protocol: UDP}]}]}
		r {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 81, endPort: 81}]}]}`},
	{"out by a port's name, in by a protocol", `
		p {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [p, q]}]}}], ports: [{port: serve-80-udp, protocol: UDP}]}]}
		p {podSelector: {}, ingress: [{ports: [{protocol: TCP}]}, {from: [{namespaceSelector: {matchLabels: {ns: q}}}], ports: [{protocol: UDP, port: 81}]}]}`},
	{"expressions", `
		p {podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}]}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: Exists}]}, podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [b]}]}}]}]}
		q {podSelector: {matchExpressions: [{key: other, operator: DoesNotExist}]}, ingress: [{from: [{podSelector: {}}]}]}`},
	{"both ends must allow", `
		p {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: q}}}]}]}
		q {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: p}}, podSelector: {matchLabels: {pod: a}}}], ports: [{port: 80}]}]}`},
	{"many", strings.Repeat("p {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: q}}}], ports: [{port: 81}]}]}\n", 30) +
		"p {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}]}"},
	{"none again", ``},
}

// definition is what NetworkPolicies mean, as their API says it.
type definition struct {
	policies   []*networkingv1.NetworkPolicy
	namespaces map[string]labels.Set
}

func (d definition) allow(from, to peer, family int, p port) bool {
	if from.namespace == to.namespace && from.name == to.name {
		return true
	}
	in, inOpen, out, outOpen := false, false, false, false
	for _, np := range d.policies {
		spec := &np.Spec
		ingress := len(spec.PolicyTypes) == 0 || slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeIngress)
		egress := slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		if ingress && np.Namespace == to.namespace && selects(&spec.PodSelector, to.labels) {
			in = true
			for _, r := range spec.Ingress {
				inOpen = inOpen || d.peers(np.Namespace, r.From, from, family) && ports(r.Ports, p)
			}
		}
		if egress && np.Namespace == from.namespace && selects(&spec.PodSelector, from.labels) {
			out = true
			for _, r := range spec.Egress {
				outOpen = outOpen || d.peers(np.Namespace, r.To, to, family) && ports(r.Ports, p)
			}
		}
	}
	return (!in || inOpen) && (!out || outOpen)
}

func (d definition) peers(namespace string, allowed []networkingv1.NetworkPolicyPeer, p peer, family int) bool {
	return len(allowed) == 0 || slices.ContainsFunc(allowed, func(a networkingv1.NetworkPolicyPeer) bool {
		if a.IPBlock != nil {
			contains := func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(p.ips[family]) }
			return contains(a.IPBlock.CIDR) && !slices.ContainsFunc(a.IPBlock.Except, contains)
		}
		if a.NamespaceSelector == nil && p.namespace != namespace || a.NamespaceSelector != nil && !selects(a.NamespaceSelector, d.namespaces[p.namespace]) {
			return false
		}
		return a.PodSelector == nil || selects(a.PodSelector, p.labels)
	})
}

func ports(allowed []networkingv1.NetworkPolicyPort, p port) bool {
	return len(allowed) == 0 || slices.ContainsFunc(allowed, func(a networkingv1.NetworkPolicyPort) bool {
		protocol := v1.ProtocolTCP
		if a.Protocol != nil {
			protocol = *a.Protocol
		}
		switch {
		case protocol != p.protocol:
			return false
		case a.Port == nil:
			return true
		case a.Port.Type == intstr.String:
			return a.Port.StrVal == p.name()
		case a.EndPort != nil:
			return a.Port.IntVal <= p.number && p.number <= *a.EndPort
		}
		return a.Port.IntVal == p.number
	})
}

func selects(s *metav1.LabelSelector, of labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(of)
}
