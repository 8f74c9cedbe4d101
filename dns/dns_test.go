package dns

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

// api serves lists and watches of fixed objects, and of what is added later.
type api struct {
	mu      sync.Mutex
	objects map[string][]any // by path
	change  chan struct{}    // closed and made anew when objects grow
}

func (a *api) add(path string, objects ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.objects[path] = append(a.objects[path], objects...)
	close(a.change)
	a.change = make(chan struct{})
}

func (a *api) look(path string) ([]any, chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.objects[path]), a.change
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	objects, change := a.look(r.URL.Path)
	query := r.URL.Query()
	if query.Get("sendInitialEvents") != "" {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: 422,
		})
		return
	}
	if query.Get("watch") == "" {
		kind, version := "List", "v1"
		if strings.Contains(r.URL.Path, "discovery") {
			version = discovery.SchemeGroupVersion.String()
		}
		kind = map[string]string{"services": "Service", "namespaces": "Namespace", "endpointslices": "EndpointSlice", "configmaps": "ConfigMap"}[filepath.Base(r.URL.Path)] + kind
		_ = json.NewEncoder(w).Encode(map[string]any{
			"kind": kind, "apiVersion": version, "metadata": map[string]string{"resourceVersion": fmt.Sprint(len(objects) + 1)}, "items": append([]any{}, objects...),
		})
		return
	}
	var sent int
	if _, err := fmt.Sscan(query.Get("resourceVersion"), &sent); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	sent--
	for {
		for ; sent < len(objects); sent++ {
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": objects[sent]})
		}
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-change:
		}
		objects, change = a.look(r.URL.Path)
	}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, ResourceVersion: "1"}
}

func service(name, ip string) *corev1.Service {
	return &corev1.Service{
		TypeMeta: metav1.TypeMeta{Kind: "Service", APIVersion: "v1"}, ObjectMeta: meta("shop", name),
		Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
}

func newAPI() *api {
	named := discovery.Endpoint{Addresses: []string{"10.1.0.1"}, Hostname: ptr.To("db-0"), Conditions: discovery.EndpointConditions{Ready: ptr.To(true)}}
	plain := discovery.Endpoint{Addresses: []string{"10.1.0.2"}, Conditions: discovery.EndpointConditions{Ready: ptr.To(true)}}
	slice := &discovery.EndpointSlice{
		TypeMeta: metav1.TypeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"}, ObjectMeta: meta("shop", "db-1"),
		AddressType: discovery.AddressTypeIPv4, Endpoints: []discovery.Endpoint{named, plain},
		Ports: []discovery.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	slice.Labels = map[string]string{discovery.LabelServiceName: "db"}
	alias := service("alias", "")
	alias.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "web.example.org"}
	a := &api{objects: map[string][]any{}, change: make(chan struct{})}
	a.add("/api/v1/namespaces", &corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"}, ObjectMeta: meta("", "shop")})
	a.add("/api/v1/services", service("web", "10.96.0.7"), service("db", "None"), alias)
	a.add("/apis/discovery.k8s.io/v1/endpointslices", slice)
	return a
}

// start runs a server without metrics on an address of this process's own.
func start(t *testing.T, a *api) *Server {
	t.Helper()
	return startWith(t, a, -1)
}

// ownAddress is an address of this process's own.
func ownAddress() netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, 77, byte(pid >> 8), byte(pid)})
}

func startWith(t *testing.T, a *api, metricsPort int) *Server {
	t.Helper()
	return startFrom(t, a, metricsPort, filepath.Join(t.TempDir(), "none"))
}

func startFrom(t testing.TB, a *api, metricsPort int, resolvConf string) *Server {
	t.Helper()
	web := httptest.NewServer(a)
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	s, err := New(Config{
		Client: &rest.Config{Host: web.URL}, Addresses: []netip.Addr{ownAddress()}, MetricsPort: metricsPort,
		ResolvConf: resolvConf,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return s
}

func ask(t testing.TB, s *Server, network, name string, kind uint16) (code string, answers []string) {
	t.Helper()
	client := mdns.Client{Net: network, Timeout: 5 * time.Second}
	reply, _, err := client.Exchange(new(mdns.Msg).SetQuestion(name, kind), s.Endpoint())
	if err != nil {
		t.Fatalf("%s %s: %v", network, name, err)
	}
	for _, rr := range append(reply.Answer, reply.Extra...) {
		if rr.Header().Rrtype == mdns.TypeOPT {
			continue
		}
		text := strings.TrimPrefix(rr.String(), rr.Header().String())
		answers = append(answers, mdns.TypeToString[rr.Header().Rrtype]+" "+text)
	}
	slices.Sort(answers)
	return mdns.RcodeToString[reply.Rcode], answers
}

// Covers: dns.records
func TestAnswers(t *testing.T) {
	a := newAPI()
	s := start(t, a)
	for name, tc := range map[string]struct {
		query string
		kind  uint16
		code  string
		want  []string
	}{
		"service":               {query: "web.shop.svc.cluster.local.", kind: mdns.TypeA, want: []string{"A 10.96.0.7"}},
		"service's other type":  {query: "web.shop.svc.cluster.local.", kind: mdns.TypeAAAA},
		"service port":          {query: "_http._tcp.web.shop.svc.cluster.local.", kind: mdns.TypeSRV, want: []string{"A 10.96.0.7", "SRV 0 100 80 web.shop.svc.cluster.local."}},
		"headless":              {query: "db.shop.svc.cluster.local.", kind: mdns.TypeA, want: []string{"A 10.1.0.1", "A 10.1.0.2"}},
		"hostname of headless":  {query: "db-0.db.shop.svc.cluster.local.", kind: mdns.TypeA, want: []string{"A 10.1.0.1"}},
		"headless port":         {query: "_http._tcp.db.shop.svc.cluster.local.", kind: mdns.TypeSRV, want: []string{"A 10.1.0.1", "A 10.1.0.2", "SRV 0 50 8080 10-1-0-2.db.shop.svc.cluster.local.", "SRV 0 50 8080 db-0.db.shop.svc.cluster.local."}},
		"pod":                   {query: "10-1-0-9.shop.pod.cluster.local.", kind: mdns.TypeA, want: []string{"A 10.1.0.9"}},
		"external name":         {query: "alias.shop.svc.cluster.local.", kind: mdns.TypeCNAME, want: []string{"CNAME web.example.org."}},
		"address to service":    {query: "7.0.96.10.in-addr.arpa.", kind: mdns.TypePTR, want: []string{"PTR web.shop.svc.cluster.local."}},
		"address to endpoint":   {query: "1.0.1.10.in-addr.arpa.", kind: mdns.TypePTR, want: []string{"PTR db-0.db.shop.svc.cluster.local."}},
		"no such service":       {query: "none.shop.svc.cluster.local.", kind: mdns.TypeA, code: "NXDOMAIN"},
		"no such namespace":     {query: "web.none.svc.cluster.local.", kind: mdns.TypeA, code: "NXDOMAIN"},
		"specification version": {query: "dns-version.cluster.local.", kind: mdns.TypeTXT, want: []string{`TXT "1.1.0"`}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				code, got := ask(t, s, network, tc.query, tc.kind)
				want := tc.code
				if want == "" {
					want = "NOERROR"
				}
				if code != want {
					t.Errorf("%s: %s, want %s", network, code, want)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s: answers (-want +got):\n%s", network, diff)
				}
			}
		})
	}
	t.Run("later service", func(t *testing.T) {
		a.add("/api/v1/services", service("late", "10.96.0.8"))
		until(t, s, "late.shop.svc.cluster.local.", "A 10.96.0.8")
	})
}

// until asks again while the server has not heard of a change.
func until(t *testing.T, s *Server, name, want string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for {
		_, got := ask(t, s, "udp", name, mdns.TypeA)
		if slices.Equal(got, []string{want}) {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: %v, want %s", name, got, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	address := net.JoinHostPort(ownAddress().String(), "9153")
	s := startWith(t, newAPI(), 0)
	ask(t, s, "udp", "web.shop.svc.cluster.local.", mdns.TypeA)
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(b), "coredns_dns_requests_total") {
		t.Errorf("the metrics are %.300s (%v)", b, err)
	}
}

func TestTakenMetricsPort(t *testing.T) {
	l, err := net.Listen("tcp", net.JoinHostPort(ownAddress().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := startWith(t, newAPI(), l.Addr().(*net.TCPAddr).Port)
	if code, _ := ask(t, s, "udp", "web.shop.svc.cluster.local.", mdns.TypeA); code != "NOERROR" {
		t.Errorf("the answer is %s", code)
	}
}

func TestCorefileIsFollowed(t *testing.T) {
	a := newAPI()
	s := start(t, a)
	configMap := func(text string) *corev1.ConfigMap {
		return &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}, ObjectMeta: meta("kube-system", "coredns"), Data: map[string]string{"Corefile": text}}
	}
	corefile := func(ip string) string {
		return ".:53 {\n    kubernetes cluster.local\n    hosts {\n        " + ip + " static.example\n        fallthrough\n    }\n    loop\n}\n"
	}
	const path = "/api/v1/namespaces/kube-system/configmaps"
	a.add(path, configMap(corefile("192.0.2.1")))
	until(t, s, "static.example.", "A 192.0.2.1")
	until(t, s, "web.shop.svc.cluster.local.", "A 10.96.0.7")
	// A bad one changes nothing; the one after it counts again.
	a.add(path, configMap(".:53 {\n    no_such_directive\n}\n"), configMap(corefile("192.0.2.2")))
	until(t, s, "static.example.", "A 192.0.2.2")
	until(t, s, "web.shop.svc.cluster.local.", "A 10.96.0.7")
}

func TestConfig(t *testing.T) {
	_, err := New(Config{})
	for _, want := range []string{"Client is nil", "Addresses is empty"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
