package proxy

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"strconv"
	"time"
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
	maps.Copy(want, p.cfg.Conntrack.sysctls(runtime.NumCPU()))
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

// sysctls are the values that the kernel is to have.
func (c Conntrack) sysctls(cores int) map[string]string {
	const folder = "/proc/sys/net/netfilter/nf_conntrack_"
	out := map[string]string{}
	if c.MaxPerCore > 0 {
		out[folder+"max"] = strconv.Itoa(max(c.MaxPerCore*cores, c.Min))
	}
	for name, d := range map[string]time.Duration{
		"tcp_timeout_established": c.TCPEstablished, "tcp_timeout_close_wait": c.TCPCloseWait, "udp_timeout": c.UDP, "udp_timeout_stream": c.UDPStream,
	} {
		if d > 0 {
			out[folder+name] = strconv.Itoa(int(d.Seconds()))
		}
	}
	if c.TCPBeLiberal {
		out[folder+"tcp_be_liberal"] = "1"
	}
	return out
}
