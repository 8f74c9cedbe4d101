package proxy

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/proxy/ipvs"
	"skiff/proxy/packettest"
)

// TestNoOutage restarts the proxy, and changes its mode, while a client from
// outside asks a Service through the node.
func TestNoOutage(t *testing.T) {
	noOutage(t, IPTables, IPTables, NFTables, NFTables, IPTables, NFTables)
}

// TestNoOutageIPVS changes to the mode ipvs, and restarts in it.
func TestNoOutageIPVS(t *testing.T) {
	if err := ipvs.Available(); err != nil {
		t.Skip(err)
	}
	noOutage(t, NFTables, IPVS, IPVS)
}

// noOutage runs the proxy in each of the modes while the client asks. It has run in
// the first of all.
func noOutage(t *testing.T, first Mode, modes ...Mode) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"iptables", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	w := packettest.NewWorld(t)
	service := &v1.Service{ObjectMeta: object("s"), Spec: v1.ServiceSpec{
		ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7"}, Ports: []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP}},
	}}
	slice := &discovery.EndpointSlice{ObjectMeta: object("s-1"), AddressType: discovery.AddressTypeIPv4,
		Ports: []discovery.EndpointPort{{Name: ptr.To(""), Port: ptr.To[int32](packettest.Port), Protocol: ptr.To(v1.ProtocolTCP)}},
	}
	for _, ip := range packettest.PodIPs() {
		slice.Endpoints = append(slice.Endpoints, discovery.Endpoint{Addresses: []string{ip}})
	}
	// run runs a proxy until it has written its rules and, where another mode had
	// some, taken those away.
	run := func(mode Mode) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var p *Proxy
		w.Node.Must(t, func() (err error) {
			p, err = New(Config{Client: fake.NewClientset(service, slice), NodeName: "n1", Mode: mode, ClusterCIDRs: []netip.Prefix{packettest.Pods()}})
			return err
		})
		done := w.Node.Start(func() error { return p.Run(ctx) })
		eventually(t, "the rules are written", func() bool { return p.synced.Load() != 0 })
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
	run(first)
	w.AskedAllTheWhile(t, "10.96.0.7:80", func() {
		for _, mode := range modes {
			run(mode)
		}
	})
}
