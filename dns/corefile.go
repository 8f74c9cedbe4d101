package dns

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
)

// builtin is upstream's default Corefile, on this node's addresses.
func builtin(c Config, forward []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".:%d {\n    errors\n", c.Port)
	fmt.Fprintf(&b, "    kubernetes %s in-addr.arpa ip6.arpa {\n        pods insecure\n        fallthrough in-addr.arpa ip6.arpa\n        ttl 30\n    }\n", c.Domain)
	if c.MetricsPort > 0 {
		fmt.Fprintf(&b, "    prometheus %s\n", net.JoinHostPort(c.Addresses[0].String(), fmt.Sprint(c.MetricsPort)))
	}
	if len(forward) > 0 {
		fmt.Fprintf(&b, "    forward . %s {\n        max_concurrent 1000\n    }\n", strings.Join(forward, " "))
	}
	fmt.Fprintf(&b, "    cache 30 {\n        disable success %s\n        disable denial %s\n    }\n    loadbalance\n}\n", c.Domain, c.Domain)
	return b.String()
}

// upstreams are the node's name servers without this server itself, which
// would ask itself for ever.
func upstreams(c Config) []string {
	conf, err := mdns.ClientConfigFromFile(c.ResolvConf)
	if err != nil {
		return nil
	}
	var out []string
	for _, text := range conf.Servers {
		a, err := netip.ParseAddr(text)
		if err != nil || slices.Contains(c.Addresses, a) && conf.Port == fmt.Sprint(c.Port) {
			continue
		}
		out = append(out, net.JoinHostPort(text, conf.Port))
	}
	return out
}

var (
	kubernetesLine = regexp.MustCompile(`(?m)^([ \t]*)kubernetes\b`)
	// loop ends the whole process when it finds one; reload reads files.
	droppedLine = regexp.MustCompile(`(?m)^[ \t]*(loop|reload)\b.*$`)
	serverBlock = regexp.MustCompile(`(?m)^([^\s{}#][^{}\n]*)\{[ \t]*$`)
	bindLine    = regexp.MustCompile(`(?m)^[ \t]*bind\b`)
	// port53 is a server's key with port 53, which is also the default.
	port53 = regexp.MustCompile(`^(dns://)?([^\s:,]+)(:53)?(,?)$`)
	// probes listen on ports of the pod, 8080 and 8181; those of the node belong
	// to others. With an address of their own they stay.
	probes = regexp.MustCompile(`(?m)^[ \t]*(health[ \t]*(\{[^}]*\})?|ready)[ \t]*$`)
)

// adapt makes a Corefile written for upstream's pods serve here: our client
// behind the kubernetes directive, and only this node's addresses.
func adapt(text, id string, c Config) string {
	text = kubernetesLine.ReplaceAllString(text, "${1}"+directive+" "+id)
	text = droppedLine.ReplaceAllString(text, "")
	text = probes.ReplaceAllString(text, "")
	if bindLine.MatchString(text) {
		return text
	}
	addrs := make([]string, len(c.Addresses))
	for i, a := range c.Addresses {
		addrs[i] = a.String()
	}
	return serverBlock.ReplaceAllStringFunc(text, func(head string) string {
		keys := strings.Fields(strings.TrimSuffix(strings.TrimSpace(head), "{"))
		for i, key := range keys {
			// Port 53 of upstream's pods is our port.
			if m := port53.FindStringSubmatch(key); m != nil {
				keys[i] = fmt.Sprintf("%s%s:%d%s", m[1], m[2], c.Port, m[4])
			}
		}
		return strings.Join(keys, " ") + " {\n    bind " + strings.Join(addrs, " ")
	})
}
