package dns

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAdapt(t *testing.T) {
	c := Config{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, Port: 10053, MetricsPort: 9153}
	const bind = "    bind 192.0.2.1 2001:db8::1\n"
	for name, tc := range map[string]struct {
		in, want string
		forward  []string
	}{
		"upstream's": {
			in:   ".:53 {\n    errors\n    health {\n       lameduck 5s\n    }\n    ready\n    kubernetes cluster.local in-addr.arpa {\n       pods insecure\n    }\n    loop\n    reload\n}\n",
			want: ".:10053 {\n" + bind + "    errors\n\n\n    skiff_kubernetes 7 cluster.local in-addr.arpa {\n       pods insecure\n    }\n\n\n}\n",
		},
		"upstream's metrics and name servers": {
			in:      ".:53 {\n    prometheus :9153\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    forward x.example /etc/resolv.conf\n}\n",
			want:    ".:10053 {\n" + bind + "    prometheus 192.0.2.1:9153\n    forward . 192.0.2.53:53 [2001:db8::53]:53 {\n       max_concurrent 1000\n    }\n    forward x.example 192.0.2.53:53 [2001:db8::53]:53\n}\n",
			forward: []string{"192.0.2.53:53", "[2001:db8::53]:53"},
		},
		"no name servers": {
			in:   ".:53 {\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    cache 30\n}\n",
			want: ".:10053 {\n" + bind + "\n    cache 30\n}\n",
		},
		"metrics and name servers of its own": {
			in:   ".:53 {\n    prometheus 192.0.2.1:9999\n    forward . 192.0.2.7\n}\n",
			want: ".:10053 {\n" + bind + "    prometheus 192.0.2.1:9999\n    forward . 192.0.2.7\n}\n",
		},
		"default port": {in: "example.org, example.com {\n}\n", want: "example.org:10053, example.com:10053 {\n" + bind + "}\n"},
		"other port":   {in: "dns://example.org:5353 {\n}\n", want: "dns://example.org:5353 {\n" + bind + "}\n"},
		"own address":  {in: ".:53 {\n    bind 127.0.0.1\n}\n", want: ".:53 {\n    bind 127.0.0.1\n}\n"},
		"probes with addresses": {
			in: ".:53 {\n    health 127.0.0.1:8081\n    ready 127.0.0.1:8082\n}\n", want: ".:10053 {\n" + bind + "    health 127.0.0.1:8081\n    ready 127.0.0.1:8082\n}\n",
		},
		"names that only begin so": {in: ".:53 {\n    rewrite name kubernetes.example loop.example\n}\n", want: ".:10053 {\n" + bind + "    rewrite name kubernetes.example loop.example\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, adapt(tc.in, "7", c, tc.forward)); diff != "" {
				t.Errorf("Corefile (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUpstreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 192.0.2.1\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	for name, tc := range map[string]struct {
		port int
		want []string
	}{
		"itself is left out":            {port: 53, want: []string{"192.0.2.53:53", "[2001:db8::53]:53"}},
		"another server on its address": {port: 10053, want: []string{"192.0.2.1:53", "192.0.2.53:53", "[2001:db8::53]:53"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, upstreams(Config{ResolvConf: path, Addresses: own, Port: tc.port})); diff != "" {
				t.Errorf("upstream servers (-want +got):\n%s", diff)
			}
		})
	}
	if got := upstreams(Config{ResolvConf: path + ".none"}); got != nil {
		t.Errorf("without a file: %v", got)
	}
}
