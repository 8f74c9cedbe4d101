package proxy

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"
)

// TestRun runs a whole proxy in a namespace of its own, one mode after the other.
func TestRun(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, program := range []string{"iptables", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	work := make(chan func())
	defer close(work)
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		ns, err := netns.New()
		made <- err
		defer ns.Close()
		for f := range work {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Skipf("network namespaces cannot be made: %v", err)
	}
	within := func(f func()) {
		done := make(chan struct{})
		work <- func() { defer close(done); f() }
		<-done
	}
	rules := func() (text string) {
		t.Helper()
		within(func() {
			out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
			if err != nil {
				t.Errorf("nft: %v: %s", err, out)
			}
			text = string(out)
		})
		return text
	}
	service := &v1.Service{ObjectMeta: object("s"), Spec: v1.ServiceSpec{
		ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}, Ports: []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP}},
	}}
	slice := &discovery.EndpointSlice{ObjectMeta: object("s-1"), AddressType: discovery.AddressTypeIPv4,
		Ports:     []discovery.EndpointPort{{Name: ptr.To(""), Port: ptr.To[int32](8080), Protocol: ptr.To(v1.ProtocolTCP)}},
		Endpoints: []discovery.Endpoint{{Addresses: []string{"10.0.0.1"}}},
	}
	has := map[Mode]string{IPTables: "KUBE-SERVICES", NFTables: "table ip kube-proxy"}
	leads := map[Mode]string{IPTables: "10.0.0.1:8080", NFTables: "10.0.0.1 . 8080"}
	for _, mode := range []Mode{IPTables, NFTables, IPTables} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		var p *Proxy
		within(func() {
			var err error
			if p, err = New(Config{Client: fake.NewClientset(service, slice), NodeName: "n1", Mode: mode, HealthzAddress: "127.0.0.1:0"}); err != nil {
				t.Error(err)
			}
		})
		if p == nil {
			cancel()
			return
		}
		// The thread is Run's until ctx ends.
		work <- func() { done <- p.Run(ctx) }
		limit := time.After(30 * time.Second)
		for p.synced.Load() == 0 {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-limit:
				t.Errorf("%s: the rules are never written", mode)
				p.synced.Store(1)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: Run: %v", mode, err)
		}
		text := rules()
		for m, sign := range has {
			if got := strings.Contains(text, sign); got != (m == mode) {
				t.Errorf("mode %s: %s is in the kernel: %v", mode, sign, got)
			}
		}
		if !strings.Contains(text, leads[mode]) {
			t.Errorf("mode %s: no rule leads to the endpoint", mode)
		}
	}
	within(func() {
		if err := Clean(); err != nil {
			t.Error(err)
		}
	})
	if text := rules(); strings.Contains(text, "KUBE-") || strings.Contains(text, "kube-proxy") {
		t.Errorf("left after Clean:\n%s", text)
	}
}
