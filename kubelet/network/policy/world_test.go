package policy

import (
	"context"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/knftables"
)

// world is a client and a server, each in a namespace of its own, behind one with
// the rules, which is that of the test's thread.
type world struct {
	router, client, server netns.NsHandle
	nft                    knftables.Interface
	before                 *state
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread() // the thread keeps the router's namespace and is not used again
	router := must(t, netns.New)
	client := attach(t, router, "c", "10.0.0.1/24", "10.0.0.2/24")
	server := attach(t, router, "s", "10.0.1.1/24", "10.0.1.2/24")
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	within(t, router, server, func() {
		for _, p := range []string{":8080", ":9090"} {
			l, err := net.Listen("tcp", p)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Close()
				}
			}()
		}
	})
	nft, err := knftables.New(knftables.InetFamily, Table)
	if err != nil {
		t.Fatal(err)
	}
	return &world{router: router, client: client, server: server, nft: nft}
}

// apply brings the rules to what the objects say.
func (w *world) apply(t *testing.T, in input) {
	t.Helper()
	next, err := compute(in)
	if err != nil {
		t.Fatal(err)
	}
	tx := w.nft.NewTransaction()
	write(tx, w.before, next)
	if tx.NumOperations() > 0 {
		if err := w.nft.Run(context.Background(), tx); err != nil {
			t.Fatal(err)
		}
	}
	w.before = next
}

// open tells whether the client gets a connection.
func (w *world) open(t *testing.T, address string) (err error) {
	t.Helper()
	within(t, w.router, w.client, func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", address, 300*time.Millisecond); err == nil {
			c.Close()
		}
	})
	return err
}

// enforce runs an enforcer in the router's namespace until stop.
func (w *world) enforce(t *testing.T, objects input, cfg Config) (e *Enforcer, stop func()) {
	t.Helper()
	client := fake.NewClientset()
	for _, p := range objects.pods {
		if _, err := client.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, np := range objects.policies {
		if _, err := client.NetworkingV1().NetworkPolicies(np.Namespace).Create(t.Context(), np, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	f := informers.NewSharedInformerFactory(client, 0)
	cfg.NodeName, cfg.Pods, cfg.Namespaces, cfg.Policies = "n1", f.Core().V1().Pods(), f.Core().V1().Namespaces(), f.Networking().V1().NetworkPolicies()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Core().V1().Pods().Informer()
	f.Core().V1().Namespaces().Informer()
	f.Networking().V1().NetworkPolicies().Informer()
	ctx, cancel := context.WithCancel(t.Context())
	f.StartWithContext(ctx)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(w.router); err != nil {
			done <- err
			return
		}
		done <- e.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		f.Shutdown()
	})
	t.Cleanup(stop)
	return e, stop
}

// twoPods are a server and a client of the same namespace.
func twoPods(policies ...*networkingv1.NetworkPolicy) input {
	return input{node: "n1", policies: policies, pods: []*v1.Pod{
		makePod("a", "server", "n1", "10.0.1.2", map[string]string{"app": "server"}),
		makePod("a", "client", "n1", "10.0.0.2", map[string]string{"app": "client"}),
	}, namespaces: []*v1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "a"}}}}
}

func must(t *testing.T, f func() (netns.NsHandle, error)) netns.NsHandle {
	t.Helper()
	ns, err := f()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// attach makes a namespace with a link to the router.
func attach(t *testing.T, router netns.NsHandle, name, routerAddr, addr string) netns.NsHandle {
	t.Helper()
	ns := must(t, netns.New)
	if err := netns.Set(router); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}); err != nil {
		t.Fatal(err)
	}
	raise(t, name, routerAddr)
	within(t, router, ns, func() {
		raise(t, "eth0", addr)
		gw, _, err := net.ParseCIDR(routerAddr)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteAdd(&netlink.Route{Gw: gw}); err != nil {
			t.Fatal(err)
		}
	})
	return ns
}

func raise(t *testing.T, name, addr string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T, home, ns netns.NsHandle, f func()) {
	t.Helper()
	if err := netns.Set(ns); err != nil {
		t.Fatal(err)
	}
	defer netns.Set(home)
	f()
}
