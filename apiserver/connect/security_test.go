package connect

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/apiserver/handlers"
	"skiff/apiserver/resources"
)

// seen is a backend that answers every request in one way and remembers them.
type seen struct {
	mu    sync.Mutex
	paths []string
}

func (s *seen) backend(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	b := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.paths = append(s.paths, r.URL.Path)
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.paths, " ")
}

// A backend that does not upgrade the connection leaves the client with an answer
// and not with a connection to it, on which the client would be the API server
// (CVE-2018-1002105).
//
// Covers: api.streams
func TestRefusedUpgradeLeavesNoConnection(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"error":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"success": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "no stream") },
		"another protocol's half": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn) // until the other side ends
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s seen
			conn, resp, r := upgrade(t, front(t, s.backend(t, answer), name != "success", "/p"), "/p/exec/first")
			if resp.StatusCode == http.StatusSwitchingProtocols {
				t.Fatal("the connection was upgraded")
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Fatal(err)
			}
			// What the client says next on this connection is another request to the
			// API server, which hands it on by its own rules or not at all.
			fmt.Fprint(conn, "GET /stolen HTTP/1.1\r\nHost: x\r\n\r\n")
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			// Either the front closes the connection or it answers itself.
			if next, err := http.ReadResponse(r, nil); err == nil {
				next.Body.Close()
			} else if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection stays open without an answer: %v", err)
			}
			for _, path := range strings.Fields(s.String()) {
				if path == "/stolen" && name != "success" {
					t.Errorf("the backend got %s", s.String())
				}
			}
		})
	}
}

// No redirect of a kubelet, a pod or a service is followed: the API server's
// credentials would go where the other side likes (CVE-2018-1002102, CVE-2020-8559).
//
// Covers: api.streams, api.logs-proxy
func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere seen
	trap := elsewhere.backend(t, func(http.ResponseWriter, *http.Request) {})
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, upgradeOnly := range []bool{true, false} {
			t.Run(fmt.Sprint(code, " upgrade ", upgradeOnly), func(t *testing.T) {
				var s seen
				backend := s.backend(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, trap.URL+"/trap", code) })
				_, resp, _ := upgrade(t, front(t, backend, upgradeOnly, ""), "/exec/away")
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				if got := s.String(); got != "/exec/away" || elsewhere.String() != "" {
					t.Errorf("the backend got %s, the other %s", got, elsewhere.String())
				}
				if upgradeOnly && (resp.StatusCode != http.StatusInternalServerError || resp.Header.Get("Location") != "") {
					t.Errorf("the client is sent away: %d %v %s", resp.StatusCode, resp.Header, b)
				}
				if !upgradeOnly && resp.StatusCode != code {
					t.Errorf("got %d", resp.StatusCode)
				}
			})
		}
	}
}

// What is dialled is the address that was checked: no name is looked up, which
// could tell another address the second time (CVE-2020-8562), and no object can
// lead to what listens on this machine for itself or to the link's own services
// (CVE-2022-3294).
//
// Covers: api.logs-proxy
func TestProxyDialsWhatWasChecked(t *testing.T) {
	node := func(address string, kind corev1.NodeAddressType) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: kind, Address: address}}}}
	}
	for _, tc := range []struct {
		address string
		allowed bool
	}{
		{"192.0.2.7", true}, {"fd00::7", true},
		{"127.0.0.1", false}, {"127.1.2.3", false}, {"::1", false}, {"::ffff:127.0.0.1", false}, {"169.254.169.254", false}, {"fe80::1", false}, {"0.0.0.0", false}, {"::", false},
		{"224.0.0.1", false}, {"localhost", false}, {"rebind.example.com", false}, {"2130706433", false}, {"0x7f.1", false}, {"127.0.0.1%lo", false}, {"", false},
	} {
		t.Run(tc.address, func(t *testing.T) {
			client := fake.NewClientset()
			lister := informers.NewSharedInformerFactory(client, 0).Core().V1().Nodes()
			kind := corev1.NodeInternalIP
			if net.ParseIP(tc.address) == nil {
				kind = corev1.NodeHostName
			}
			if err := lister.Informer().GetIndexer().Add(node(tc.address, kind)); err != nil {
				t.Fatal(err)
			}
			c := &connectors{Config{Dialer: &Dialer{Nodes: lister.Lister()}, Client: client}}
			target := &handlers.Target{Resource: &resources.Resource{Kind: "Node"}}
			to, _, err := c.backend(context.Background(), target, "http", "n", "8080")
			if (err == nil) != tc.allowed {
				t.Fatalf("dials %v, %v", to, err)
			}
			if err == nil && to.Hostname() != tc.address {
				t.Errorf("dials %s, checked %s", to.Host, tc.address)
			}
			if err := proxyable(tc.address); (err == nil) != tc.allowed || err != nil && err.Error() != "address not allowed" {
				t.Errorf("of a pod: %v", err)
			}
		})
	}
}

// Paths below a proxy stay what the client sent: they cannot name another host, nor
// climb out of what the request was authorised for.
//
// Covers: api.bad-input
func TestProxyPathsStayBelow(t *testing.T) {
	var s seen
	backend := s.backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
	base, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := &connectors{Config{Dialer: &Dialer{}}}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		prefix, rest := splitProxyPath(r.URL.EscapedPath())
		to, err := below(base, rest, r.URL.RawQuery)
		if err != nil {
			handlers.WriteError(w, r, err)
			return
		}
		c.pass(w, r, passing{to: to, transport: c.Dialer.kubeletTransport(), prefix: prefix})
	}))
	defer h.Close()
	const at = "/api/v1/namespaces/a/pods/p/proxy"
	for path, want := range map[string]string{
		at + "/x?y=1":                     "200 /x?y=1",
		at + "//other.example.com/x":      "200 //other.example.com/x",
		at + "/http://other.example.com/": "200 /http://other.example.com/",
		at + "/%2e%2e/%2e%2e/secrets":     "200 /%2e%2e/%2e%2e/secrets",
		at + "/..%2f..%2fsecrets":         "200 /..%2f..%2fsecrets",
		at + "/a%0d%0aX-Remote-User:%20x": "200 /a%0d%0aX-Remote-User:%20x",
		at + "/a%00b":                     "200 /a%00b",
	} {
		conn, err := net.Dial("tcp", h.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if got := fmt.Sprint(resp.StatusCode, " ", string(bytes.TrimSpace(b))); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}
