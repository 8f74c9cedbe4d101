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

// Corefile is upstream's default for a cluster's domain: what a new cluster's
// ConfigMap holds, and what is served where there is none.
func Corefile(domain string) string {
	return `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes ` + domain + ` in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success ` + domain + `
       disable denial ` + domain + `
    }
    loop
    reload
    loadbalance
}
`
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
	// metrics are on a port of the pod, too: the one that the node has for them.
	metrics = regexp.MustCompile(`(?m)^([ \t]*prometheus[ \t]+):9153[ \t]*$`)
	// The node's name servers are read here, as this server may be among them.
	forwardFile = regexp.MustCompile(`(?m)^([ \t]*forward[ \t]+\S+[ \t]+)/etc/resolv\.conf([ \t]*(\{[^}]*\})?[ \t]*)$`)
)

// adapt makes a Corefile written for upstream's pods serve here: our client
// behind the kubernetes directive, only this node's addresses, and its name servers.
func adapt(text, id string, c Config, forward []string) string {
	text = kubernetesLine.ReplaceAllString(text, "${1}"+directive+" "+id)
	text = droppedLine.ReplaceAllString(text, "")
	text = probes.ReplaceAllString(text, "")
	ownMetrics, ownForward := "", ""
	if c.MetricsPort > 0 {
		ownMetrics = "${1}" + net.JoinHostPort(c.Addresses[0].String(), fmt.Sprint(c.MetricsPort))
	}
	if len(forward) > 0 {
		ownForward = "${1}" + strings.Join(forward, " ") + "${2}"
	}
	text = metrics.ReplaceAllString(text, ownMetrics)
	text = forwardFile.ReplaceAllString(text, ownForward)
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
