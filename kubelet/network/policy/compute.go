package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// state is what the kernel is to hold.
type state struct {
	// chains are rules by chain name.
	chains map[string][]string
	// sets are elements by set name.
	sets map[string]set
	// verdicts are, by map name, chains by address.
	verdicts map[string]map[string]string
}

type set struct {
	kind     string // nftables type
	elements map[string]bool
}

// The fixed sets and maps of the table, for each family.
const (
	selfSet    = "self"
	ingressMap = "ingress"
	egressMap  = "egress"
)

func family(ip netip.Addr) string {
	if ip.Is6() {
		return "6"
	}
	return "4"
}

// address is how nftables calls addresses of a family.
func address(family string) (typ, field string) {
	if family == "6" {
		return "ipv6_addr", "ip6"
	}
	return "ipv4_addr", "ip"
}

// input is what the state is computed from.
type input struct {
	node       string
	pods       []*v1.Pod
	namespaces []*v1.Namespace
	policies   []*networkingv1.NetworkPolicy
}

// pod is a pod that has a place in the pod network.
type pod struct {
	*v1.Pod
	ips []netip.Addr
}

type computer struct {
	in         input
	pods       []pod
	namespaces map[string]labels.Set
	out        *state
}

// compute is a pure function of the API's objects.
func compute(in input) (*state, error) {
	c := &computer{in: in, namespaces: make(map[string]labels.Set), out: &state{
		chains: make(map[string][]string), sets: make(map[string]set), verdicts: make(map[string]map[string]string),
	}}
	for _, f := range []string{"4", "6"} {
		typ, _ := address(f)
		c.out.sets[selfSet+f] = set{kind: typ + " . " + typ, elements: make(map[string]bool)}
		c.out.verdicts[ingressMap+f] = make(map[string]string)
		c.out.verdicts[egressMap+f] = make(map[string]string)
	}
	for _, ns := range in.namespaces {
		c.namespaces[ns.Name] = ns.Labels
	}
	for _, p := range in.pods {
		if ips := addresses(p); len(ips) > 0 {
			c.pods = append(c.pods, pod{p, ips})
		}
	}
	policies := slices.Clone(in.policies)
	sort.Slice(policies, func(i, j int) bool {
		return policies[i].Namespace+"/"+policies[i].Name < policies[j].Namespace+"/"+policies[j].Name
	})
	for _, p := range c.pods {
		if p.Spec.NodeName != in.node {
			continue
		}
		if err := c.isolate(p, policies); err != nil {
			return nil, err
		}
	}
	return c.out, nil
}

// addresses are a pod's own addresses; none when it has the node's or is over.
func addresses(p *v1.Pod) []netip.Addr {
	if p.Spec.HostNetwork || p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed {
		return nil
	}
	var out []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && len(out) == 0 {
		out = append(out, a.Unmap())
	}
	return out
}

// isolate writes the rules of all policies that select a pod of this node.
func (c *computer) isolate(p pod, policies []*networkingv1.NetworkPolicy) error {
	var ingress, egress []string
	in, out := false, false
	for _, np := range policies {
		if np.Namespace != p.Namespace {
			continue
		}
		selected, err := matches(&np.Spec.PodSelector, p.Labels)
		if err != nil {
			return fmt.Errorf("NetworkPolicy %s/%s: %w", np.Namespace, np.Name, err)
		}
		if !selected {
			continue
		}
		wantsIn, wantsOut := kinds(np)
		if wantsIn {
			in = true
			for _, r := range np.Spec.Ingress {
				rules, err := c.rule(np.Namespace, "saddr", r.From, r.Ports, &p)
				if err != nil {
					return fmt.Errorf("NetworkPolicy %s/%s: %w", np.Namespace, np.Name, err)
				}
				ingress = append(ingress, rules...)
			}
		}
		if wantsOut {
			out = true
			for _, r := range np.Spec.Egress {
				rules, err := c.rule(np.Namespace, "daddr", r.To, r.Ports, nil)
				if err != nil {
					return fmt.Errorf("NetworkPolicy %s/%s: %w", np.Namespace, np.Name, err)
				}
				egress = append(egress, rules...)
			}
		}
	}
	for _, ip := range p.ips {
		f := family(ip)
		if in || out {
			c.out.sets[selfSet+f].elements[ip.String()+" . "+ip.String()] = true
		}
		if in {
			c.out.verdicts[ingressMap+f][ip.String()] = "jump " + c.chain("in", ingress)
		}
		if out {
			c.out.verdicts[egressMap+f][ip.String()] = "jump " + c.chain("out", egress)
		}
	}
	return nil
}

func kinds(np *networkingv1.NetworkPolicy) (in, out bool) {
	if len(np.Spec.PolicyTypes) == 0 {
		return true, len(np.Spec.Egress) > 0
	}
	return slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeIngress), slices.Contains(np.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
}

// chain gives rules a chain, which pods with the same rules share. A rule that
// fits returns; what fits none is dropped.
func (c *computer) chain(kind string, rules []string) string {
	rules = slices.Clone(rules)
	slices.Sort(rules)
	rules = append(slices.Compact(rules), "drop")
	name := kind + "-" + hash(strings.Join(rules, "\n"))
	c.out.chains[name] = rules
	return name
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

func matches(s *metav1.LabelSelector, set labels.Set) (bool, error) {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return false, err
	}
	return sel.Matches(set), nil
}

// rule writes one ingress or egress rule. target is the pod that its ports are
// of; nil when they are of the peers.
func (c *computer) rule(namespace, side string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, target *pod) ([]string, error) {
	plain, named := splitPorts(ports, target)
	if len(ports) == 0 {
		plain = []string{""}
	}
	var who []string // matches of the peers
	if len(peers) == 0 {
		who = []string{""}
	}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			m, err := block(side, peer.IPBlock)
			if err != nil {
				return nil, err
			}
			who = append(who, m)
			continue
		}
		sets, err := c.peerSets(namespace, side, peer)
		if err != nil {
			return nil, err
		}
		who = append(who, sets...)
	}
	var out []string
	for _, w := range who {
		for _, p := range plain {
			out = append(out, strings.Join(strings.Fields(w+" "+p+" return"), " "))
		}
	}
	for _, port := range named {
		rules, err := c.namedPort(namespace, peers, port)
		if err != nil {
			return nil, err
		}
		out = append(out, rules...)
	}
	return out, nil
}

// splitPorts writes the matches of ports, of which those with names are
// resolved on the target; without one they are returned.
func splitPorts(ports []networkingv1.NetworkPolicyPort, target *pod) (plain []string, named []networkingv1.NetworkPolicyPort) {
	for _, p := range ports {
		proto := protocol(p.Protocol)
		switch {
		case p.Port == nil:
			plain = append(plain, "meta l4proto "+proto)
		case p.Port.Type == intstr.Int:
			match := proto + " dport " + strconv.Itoa(p.Port.IntValue())
			if p.EndPort != nil && int(*p.EndPort) > p.Port.IntValue() {
				match += "-" + strconv.Itoa(int(*p.EndPort))
			}
			plain = append(plain, match)
		case target != nil:
			for _, n := range portsNamed(target.Pod, p.Port.StrVal, proto) {
				plain = append(plain, proto+" dport "+strconv.Itoa(int(n)))
			}
		default:
			named = append(named, p)
		}
	}
	return plain, named
}

func protocol(p *v1.Protocol) string {
	if p == nil {
		return "tcp"
	}
	return strings.ToLower(string(*p))
}

func portsNamed(p *v1.Pod, name, proto string) []int32 {
	var out []int32
	containers := slices.Clone(p.Spec.Containers)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, port := range c.Ports {
			have := port.Protocol
			if port.Name == name && (protocol(&have) == proto || have == "" && proto == "tcp") {
				out = append(out, port.ContainerPort)
			}
		}
	}
	return out
}

func block(side string, b *networkingv1.IPBlock) (string, error) {
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return "", fmt.Errorf("ipBlock: %w", err)
	}
	_, field := address(family(cidr.Addr()))
	out := field + " " + side + " " + cidr.Masked().String()
	for _, text := range b.Except {
		e, err := netip.ParsePrefix(text)
		if err != nil {
			return "", fmt.Errorf("ipBlock: except: %w", err)
		}
		out += " " + field + " " + side + " != " + e.Masked().String()
	}
	return out, nil
}

// inBlock tells the addresses that a block has.
func inBlock(b *networkingv1.IPBlock) (func(netip.Addr) bool, error) {
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return nil, fmt.Errorf("ipBlock: %w", err)
	}
	var except []netip.Prefix
	for _, text := range b.Except {
		e, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("ipBlock: except: %w", err)
		}
		except = append(except, e)
	}
	return func(ip netip.Addr) bool {
		return cidr.Contains(ip) && !slices.ContainsFunc(except, func(e netip.Prefix) bool { return e.Contains(ip) })
	}, nil
}

// selected lists the pods of the cluster that a peer means.
func (c *computer) selected(namespace string, peer networkingv1.NetworkPolicyPeer) ([]pod, error) {
	pods, spaces := labels.Everything(), labels.Nothing()
	var err error
	if peer.PodSelector != nil {
		if pods, err = metav1.LabelSelectorAsSelector(peer.PodSelector); err != nil {
			return nil, err
		}
	}
	if peer.NamespaceSelector != nil {
		if spaces, err = metav1.LabelSelectorAsSelector(peer.NamespaceSelector); err != nil {
			return nil, err
		}
	}
	var out []pod
	for _, p := range c.pods {
		if peer.NamespaceSelector == nil && p.Namespace != namespace {
			continue
		}
		if peer.NamespaceSelector != nil {
			ns, known := c.namespaces[p.Namespace]
			if !known || !spaces.Matches(ns) {
				continue
			}
		}
		if pods.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out, nil
}

// peerSets puts the addresses of a peer's pods into sets, which all rules that
// mean the same pods share, and returns the matches.
func (c *computer) peerSets(namespace, side string, peer networkingv1.NetworkPolicyPeer) ([]string, error) {
	key := "pods " + metav1.FormatLabelSelector(orEverything(peer.PodSelector))
	if peer.NamespaceSelector != nil {
		key += " namespaces " + metav1.FormatLabelSelector(peer.NamespaceSelector)
	} else {
		key += " namespace " + namespace
	}
	name := "peers-" + hash(key)
	pods, err := c.selected(namespace, peer)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range []string{"4", "6"} {
		typ, field := address(f)
		elements := make(map[string]bool)
		for _, p := range pods {
			for _, ip := range p.ips {
				if family(ip) == f {
					elements[ip.String()] = true
				}
			}
		}
		c.out.sets[name+"-"+f] = set{kind: typ, elements: elements}
		out = append(out, field+" "+side+" @"+name+"-"+f)
	}
	return out, nil
}

func orEverything(s *metav1.LabelSelector) *metav1.LabelSelector {
	if s == nil {
		return &metav1.LabelSelector{}
	}
	return s
}

// namedPort writes the rules for an egress port with a name, which is another
// number on each peer.
func (c *computer) namedPort(namespace string, peers []networkingv1.NetworkPolicyPeer, port networkingv1.NetworkPolicyPort) ([]string, error) {
	proto := protocol(port.Protocol)
	var pods []pod
	if len(peers) == 0 {
		pods = c.pods
	}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			within, err := inBlock(peer.IPBlock)
			if err != nil {
				return nil, err
			}
			for _, p := range c.pods {
				outside := func(ip netip.Addr) bool { return !within(ip) }
				if ips := slices.DeleteFunc(slices.Clone(p.ips), outside); len(ips) > 0 {
					pods = append(pods, pod{p.Pod, ips})
				}
			}
			continue
		}
		found, err := c.selected(namespace, peer)
		if err != nil {
			return nil, err
		}
		pods = append(pods, found...)
	}
	byFamily := map[string]map[string]bool{"4": {}, "6": {}}
	for _, p := range pods {
		for _, n := range portsNamed(p.Pod, port.Port.StrVal, proto) {
			for _, ip := range p.ips {
				byFamily[family(ip)][ip.String()+" . "+strconv.Itoa(int(n))] = true
			}
		}
	}
	var out []string
	for f, elements := range byFamily {
		if len(elements) == 0 {
			continue
		}
		typ, field := address(f)
		keys := make([]string, 0, len(elements))
		for k := range elements {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		name := "ports-" + hash(strings.Join(keys, ",")) + "-" + f
		c.out.sets[name] = set{kind: typ + " . inet_service", elements: elements}
		out = append(out, field+" daddr . "+proto+" dport @"+name+" return")
	}
	slices.Sort(out)
	return out, nil
}
