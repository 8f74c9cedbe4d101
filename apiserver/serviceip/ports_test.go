package serviceip

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/apiserver/admission"
	"skiff/apiserver/resources/core"
	"skiff/kine"
	"skiff/kine/sqlite"
)

// cluster is a store and the Services in it, for any number of API servers.
type cluster struct {
	store  kine.Store
	client *fake.Clientset
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	k, err := sqlite.New(sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-k.Ready()
	return &cluster{store: k, client: fake.NewClientset()}
}

// server is one API server's allocator. Its informers see what there is already.
func (c *cluster) server(t *testing.T, min, max int) *Allocator {
	t.Helper()
	factory := informers.NewSharedInformerFactory(c.client, 0)
	a, err := New(Config{Client: c.client, Informers: factory, Store: c.store, MinPort: min, MaxPort: max,
		CIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/24"), netip.MustParsePrefix("fd00::/112")}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	t.Cleanup(func() { cancel(); factory.Shutdown() })
	return a
}

func nodePort(name string, ports ...int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort}}
	for i, n := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: int32(80 + i), Protocol: corev1.ProtocolTCP, NodePort: n})
	}
	return s
}

// whole gives a service what it needs to be valid.
func whole(svc *corev1.Service) {
	if len(svc.Spec.Ports) == 0 {
		svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	}
	if len(svc.Spec.Ports) > 1 {
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].Name = fmt.Sprint("p", i)
		}
	}
	core.Services().Versions[0].Default(svc)
}

func admit(t *testing.T, a *Allocator, svc, old *corev1.Service) (*admission.Attributes, error) {
	t.Helper()
	whole(svc)
	at := &admission.Attributes{Operation: admission.Create, Resource: corev1.SchemeGroupVersion.WithResource("services"), Namespace: "ns", Object: svc}
	if old != nil {
		at.Operation, at.OldObject = admission.Update, old
	}
	return at, a.Admit(t.Context(), at)
}

func (c *cluster) write(t *testing.T, svc *corev1.Service) {
	t.Helper()
	if _, err := c.client.CoreV1().Services("ns").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestServersNeverGrantAPortTwice lets two servers empty a range together.
//
// Covers: api.service-ips
func TestServersNeverGrantAPortTwice(t *testing.T) {
	const size = 40
	c := newCluster(t)
	servers := []*Allocator{c.server(t, 30000, 30000+size-1), c.server(t, 30000, 30000+size-1)}
	var mu sync.Mutex
	granted := map[int32]string{}
	var wg sync.WaitGroup
	for i := range size {
		wg.Add(1)
		go func() {
			defer wg.Done()
			svc := nodePort(fmt.Sprint("s", i), 0)
			if _, err := admit(t, servers[i%2], svc, nil); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			n := svc.Spec.Ports[0].NodePort
			if other, twice := granted[n]; twice {
				t.Errorf("port %d went to %s and to %s", n, other, svc.Name)
			}
			granted[n] = svc.Name
		}()
	}
	wg.Wait()
	_, err := admit(t, servers[0], nodePort("late", 0), nil)
	if err == nil || !strings.Contains(err.Error(), "range is full") {
		t.Errorf("one more than there are: %v", err)
	}
}

func TestNodePorts(t *testing.T) {
	c := newCluster(t)
	a, b := c.server(t, 30000, 32767), c.server(t, 30000, 32767)
	first := nodePort("first", 30100)
	if _, err := admit(t, a, first, nil); err != nil {
		t.Fatal(err)
	}
	c.write(t, first)
	udp := nodePort("x", 30100)
	udp.Spec.Ports[0].Protocol = corev1.ProtocolUDP
	for name, tc := range map[string]struct {
		svc  *corev1.Service
		want string
	}{
		"of another for another protocol": {udp, "spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated"},
		"of another":                      {nodePort("x", 30100), "spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated"},
		"out of the range":                {nodePort("x", 1), "provided port is not in the valid range. The range of valid ports is 30000-32767"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := admit(t, b, tc.svc, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	t.Run("two protocols share a number", func(t *testing.T) {
		svc := nodePort("dns", 0, 0)
		svc.Spec.Ports[1].Port, svc.Spec.Ports[1].Protocol = svc.Spec.Ports[0].Port, corev1.ProtocolUDP
		if _, err := admit(t, b, svc, nil); err != nil {
			t.Fatal(err)
		}
		if p := svc.Spec.Ports; p[0].NodePort == 0 || p[0].NodePort != p[1].NodePort {
			t.Errorf("ports %d and %d", p[0].NodePort, p[1].NodePort)
		}
	})
	t.Run("a write that fails gives its port back", func(t *testing.T) {
		at, err := admit(t, a, nodePort("failed", 30200), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, undo := range at.Undo {
			undo(t.Context())
		}
		if _, err := admit(t, b, nodePort("next", 30200), nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("a dry run takes nothing", func(t *testing.T) {
		at := &admission.Attributes{Operation: admission.Create, Resource: corev1.SchemeGroupVersion.WithResource("services"), Object: nodePort("dry", 30300), DryRun: true}
		whole(at.Object.(*corev1.Service))
		if err := a.Admit(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if _, err := admit(t, b, nodePort("wet", 30300), nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("an update keeps what the Service has", func(t *testing.T) {
		svc := first.DeepCopy()
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Port: 443, Protocol: corev1.ProtocolTCP})
		if _, err := admit(t, b, svc, first); err != nil {
			t.Fatal(err)
		}
		if p := svc.Spec.Ports; p[0].NodePort != 30100 || p[1].NodePort == 0 {
			t.Errorf("ports %+v", p)
		}
	})
}

// TestReleaseAndRepair: a port comes back when its Service is seen to end, but not
// while another request may hold it.
func TestReleaseAndRepair(t *testing.T) {
	c := newCluster(t)
	a, b := c.server(t, 30000, 32767), c.server(t, 30000, 32767)
	free := func(n int32) bool {
		p, _, _, err := b.book.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return !p.has(n)
	}
	rev := func() int64 {
		r, err := c.store.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	svc := nodePort("s", 30100)
	if _, err := admit(t, a, svc, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.book.release(t.Context(), []portRelease{{30100, rev() - 1}}); err != nil || free(30100) {
		t.Fatalf("a port of a request under way was released (%v)", err)
	}
	c.write(t, svc)
	ended := rev() + 1
	if err := b.book.release(t.Context(), []portRelease{{30100, ended}}); err != nil || free(30100) {
		t.Fatalf("a port that a Service has was released (%v)", err)
	}
	if err := c.client.CoreV1().Services("ns").Delete(t.Context(), "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.book.release(t.Context(), []portRelease{{30100, ended}}); err != nil || !free(30100) {
		t.Fatalf("the port was not released (%v)", err)
	}

	// The repair books what a Service has, and frees what was left behind.
	c.write(t, nodePort("restored", 30500))
	if _, err := admit(t, a, nodePort("crashed", 30600), nil); err != nil {
		t.Fatal(err)
	}
	a.book.now = func() time.Time { return time.Now().Add(settled) }
	if err := a.book.repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	if free(30500) || !free(30600) {
		t.Errorf("after the repair: the Service's port is free: %v; the port left behind is free: %v", free(30500), free(30600))
	}
}

// TestRangesOfObjects: a ServiceCIDR that is added later is used when the first is full.
func TestRangesOfObjects(t *testing.T) {
	c := newCluster(t)
	for name, cidr := range map[string]string{"kubernetes": "10.96.0.0/24", "more": "10.97.0.0/30", "gone": "10.98.0.0/24"} {
		o := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{cidr}}}
		o.Status.Conditions = []metav1.Condition{{Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue}}
		if name == "gone" {
			o.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		}
		if _, err := c.client.NetworkingV1().ServiceCIDRs().Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	a := c.server(t, 30000, 32767)
	for i := range 256 {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("s", i), Namespace: "ns"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}}
		if _, err := admit(t, a, svc, nil); err != nil {
			t.Fatalf("Service %d: %v", i, err)
		}
		if in := netip.MustParsePrefix("10.96.0.0/24").Contains(netip.MustParseAddr(svc.Spec.ClusterIP)); in != (i < 254) {
			t.Fatalf("Service %d has %s", i, svc.Spec.ClusterIP)
		}
		c.write(t, svc)
	}
	asked := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "asked", Namespace: "ns"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.98.0.9"}}
	if _, err := admit(t, a, asked, nil); err == nil || !strings.Contains(err.Error(), "the provided network does not match the current range") {
		t.Errorf("an address of a range that goes: %v", err)
	}
}

// An address is booked again at once when its object is deleted and its Service is
// not: another Service could take it meanwhile.
//
// Covers: api.service-ips
func TestDeletedAddressIsBookedAgain(t *testing.T) {
	c := newCluster(t)
	a := c.server(t, 30000, 32767)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}}
	if _, err := admit(t, a, svc, nil); err != nil {
		t.Fatal(err)
	}
	c.write(t, svc)
	ips := c.client.NetworkingV1().IPAddresses()
	seen := func(want bool) func(context.Context) (bool, error) {
		return func(context.Context) (bool, error) {
			_, err := a.ips.Get(svc.Spec.ClusterIP)
			_, svcErr := a.services.Services("ns").Get("s")
			return (err == nil) == want && svcErr == nil, nil
		}
	}
	if err := wait.PollUntilContextTimeout(ctx, time.Millisecond, 20*time.Second, true, seen(true)); err != nil {
		t.Fatal(err)
	}
	was, err := ips.Get(ctx, svc.Spec.ClusterIP, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ips.Delete(ctx, was.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextTimeout(ctx, time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		_, err := ips.Get(ctx, was.Name, metav1.GetOptions{})
		return err == nil, nil
	})
	if err != nil {
		t.Errorf("the address %s is free while its Service has it: %v", was.Name, err)
	}
}
