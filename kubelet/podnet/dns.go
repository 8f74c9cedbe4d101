// Package podnet answers what a pod sees of names: its host name, its
// resolv.conf and its /etc/hosts.
package podnet

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	maxNameservers  = 3
	maxSearches     = 32
	maxSearchLength = 2048
)

// DNS computes the DNS configuration of pods.
type DNS struct {
	ClusterDNS    []string
	ClusterDomain string
	// ResolvConf is the host's file; empty means that there is none.
	ResolvConf string
	// Warn is told of what had to be left out, may be nil.
	Warn func(pod *v1.Pod, reason, message string)
}

// For returns the pod's configuration.
func (d *DNS) For(pod *v1.Pod) (*runtimeapi.DNSConfig, error) {
	host, err := d.host()
	if err != nil {
		return nil, err
	}
	var out *runtimeapi.DNSConfig
	policy := pod.Spec.DNSPolicy
	cluster := policy == v1.DNSClusterFirstWithHostNet || (policy == v1.DNSClusterFirst || policy == "") && !pod.Spec.HostNetwork
	switch {
	case policy == v1.DNSNone:
		out = &runtimeapi.DNSConfig{}
	case cluster && len(d.ClusterDNS) > 0:
		out = &runtimeapi.DNSConfig{Servers: slices.Clone(d.ClusterDNS), Options: []string{"ndots:5"}}
		if d.ClusterDomain != "" {
			out.Searches = []string{pod.Namespace + ".svc." + d.ClusterDomain, "svc." + d.ClusterDomain, d.ClusterDomain}
		}
		for _, s := range host.Searches {
			if !slices.Contains(out.Searches, s) {
				out.Searches = append(out.Searches, s)
			}
		}
	default:
		if cluster {
			d.warn(pod, "MissingClusterDNS", fmt.Sprintf("pod: %q. kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.", pod.Name+"_"+pod.Namespace+"("+string(pod.UID)+")", policy, v1.DNSDefault))
		}
		out = host
	}
	if c := pod.Spec.DNSConfig; c != nil {
		for _, s := range c.Nameservers {
			if !slices.Contains(out.Servers, s) {
				out.Servers = append(out.Servers, s)
			}
		}
		for _, s := range c.Searches {
			if !slices.Contains(out.Searches, s) {
				out.Searches = append(out.Searches, s)
			}
		}
		out.Options = mergeOptions(out.Options, c.Options)
	}
	d.fit(pod, out)
	return out, nil
}

func (d *DNS) warn(pod *v1.Pod, reason, message string) {
	if d.Warn != nil {
		d.Warn(pod, reason, message)
	}
}

// fit cuts the configuration down to what resolvers accept.
func (d *DNS) fit(pod *v1.Pod, c *runtimeapi.DNSConfig) {
	if len(c.Servers) > maxNameservers {
		c.Servers = c.Servers[:maxNameservers]
		d.warn(pod, "DNSConfigForming", "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+strings.Join(c.Servers, " "))
	}
	cut := false
	if len(c.Searches) > maxSearches {
		c.Searches, cut = c.Searches[:maxSearches], true
	}
	for len(strings.Join(c.Searches, " ")) > maxSearchLength {
		c.Searches, cut = c.Searches[:len(c.Searches)-1], true
	}
	if cut {
		d.warn(pod, "DNSConfigForming", "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(c.Searches, " "))
	}
}

func mergeOptions(base []string, over []v1.PodDNSConfigOption) []string {
	out := slices.Clone(base)
	for _, o := range over {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		i := slices.IndexFunc(out, func(have string) bool {
			name, _, _ := strings.Cut(have, ":")
			return name == o.Name
		})
		if i >= 0 {
			out[i] = text
		} else {
			out = append(out, text)
		}
	}
	return out
}

func (d *DNS) host() (*runtimeapi.DNSConfig, error) {
	if d.ResolvConf == "" {
		return &runtimeapi.DNSConfig{}, nil
	}
	f, err := os.Open(d.ResolvConf)
	if err != nil {
		if os.IsNotExist(err) {
			return &runtimeapi.DNSConfig{}, nil
		}
		return nil, fmt.Errorf("could not open resolv.conf: %w", err)
	}
	defer func() { _ = f.Close() }()
	return parseResolvConf(f)
}

func parseResolvConf(r io.Reader) (*runtimeapi.DNSConfig, error) {
	out := &runtimeapi.DNSConfig{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			out.Servers = append(out.Servers, fields[1])
		case "search":
			out.Searches = nil
			for _, s := range fields[1:] {
				if s != "." {
					s = strings.TrimSuffix(s, ".")
				}
				out.Searches = append(out.Searches, s)
			}
		case "options":
			out.Options = append([]string(nil), fields[1:]...)
		}
	}
	return out, lines.Err()
}
