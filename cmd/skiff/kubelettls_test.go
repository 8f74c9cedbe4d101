package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"skiff/cluster/pki"
)

// A Node object that leads to an API server, or to anything but a node that the
// cluster's authority has signed for, is not spoken to with this server's rights
// (CVE-2022-3294).
//
// Covers: api.kubelet-tls
func TestOnlyNodesAreKubelets(t *testing.T) {
	dir := t.TempDir()
	if err := pki.Ensure(dir, pki.Config{APIServerNames: []string{"localhost"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.LoadCA(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		leaf pki.Leaf
		args []string
		want bool
	}{
		"a node":                                {leaf: pki.Leaf{CommonName: "system:node:n", Organization: []string{"system:nodes"}}, want: true},
		"an API server":                         {leaf: pki.Leaf{CommonName: "kube-apiserver"}},
		"another group":                         {leaf: pki.Leaf{CommonName: "system:node:n", Organization: []string{"system:masters"}}},
		"any of an authority that people chose": {leaf: pki.Leaf{CommonName: "x"}, args: []string{"--kubelet-certificate-authority=" + filepath.Join(dir, "ca.crt")}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			tc.leaf.IPs, tc.leaf.Usages = []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			cert, key, err := ca.Issue(tc.leaf, pki.Algorithms()[0], time.Now(), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			asked := false
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
			s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
			s.StartTLS()
			defer s.Close()
			var o apiserverFlags
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			o.add(flags)
			if err := flags.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			conf, err := o.kubeletTLS(flags, filepath.Join(dir, "ca.crt"), "", "", true)
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}
			defer client.CloseIdleConnections()
			resp, err := client.Get(s.URL)
			if err == nil {
				resp.Body.Close()
			}
			if (err == nil) != tc.want || asked != tc.want {
				t.Errorf("asked %v, error %v", asked, err)
			}
		})
	}
}
