package proxy

import (
	"errors"
	"io/fs"
	"os"
)

// sysctls makes the kernel pass bridged and local packets through the rules.
func (p *Proxy) sysctls() error {
	want := map[string]string{
		// Two pods on one bridge that talk through a Service: the answer must
		// pass the filter to be translated back.
		"/proc/sys/net/bridge/bridge-nf-call-iptables":  "1",
		"/proc/sys/net/bridge/bridge-nf-call-ip6tables": "1",
	}
	if p.cfg.IPv4 {
		want["/proc/sys/net/ipv4/ip_forward"] = "1"
		if *p.cfg.LocalhostNodePorts {
			want["/proc/sys/net/ipv4/conf/all/route_localnet"] = "1"
		}
	}
	if p.cfg.IPv6 {
		want["/proc/sys/net/ipv6/conf/all/forwarding"] = "1"
	}
	var errs []error
	for path, value := range want {
		err := os.WriteFile(path, []byte(value), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
