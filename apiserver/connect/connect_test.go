package connect

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"
)

// kubelet is a TLS server that upgrades /exec/ok, and echoes on the connection.
func kubelet(t *testing.T) (*httptest.Server, chan struct{}) {
	t.Helper()
	closed := make(chan struct{})
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/exec/ok":
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			defer close(closed)
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: %s\r\n\r\n", r.Header.Get("X-Stream-Protocol-Version"))
			_, _ = io.Copy(conn, rw) // until the client ends
		case "/exec/refused":
			http.Error(w, "container not found", http.StatusNotFound)
		case "/away":
			http.Redirect(w, r, "/elsewhere?x=1", http.StatusFound)
		default:
			fmt.Fprintf(w, "%s %s auth=%q as=%q", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("Impersonate-User"))
		}
	}))
	t.Cleanup(s.Close)
	return s, closed
}

// front serves what pass makes of each request, and says where.
func front(t *testing.T, backend *httptest.Server, upgradeOnly bool, prefix string) *httptest.Server {
	t.Helper()
	c := &connectors{Config{Dialer: &Dialer{}}}
	base, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := *base
		to.Path, to.RawQuery = strings.TrimPrefix(r.URL.Path, prefix), r.URL.RawQuery
		c.pass(w, r, passing{to: &to, transport: c.Dialer.kubeletTransport(), upgradeOnly: upgradeOnly, prefix: prefix})
	}))
	t.Cleanup(s.Close)
	return s
}

func upgrade(t *testing.T, s *httptest.Server, path string) (net.Conn, *http.Response, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n", path)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, resp, r
}

// say sends a text and reads what comes until the end.
func say(t *testing.T, address, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, text)
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Covers: api.streams
func TestUpgradePassesBothWays(t *testing.T) {
	backend, closed := kubelet(t)
	conn, resp, r := upgrade(t, front(t, backend, true, ""), "/exec/ok")
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("X-Stream-Protocol-Version") != "v4.channel.k8s.io" {
		t.Fatalf("answer %d %v", resp.StatusCode, resp.Header)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := r.ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("echo %q, %v", line, err)
	}
	conn.Close()
	<-closed // the kubelet's side ends with the client's
}

// Covers: api.streams
func TestRefusedUpgradeIsAStatus(t *testing.T) {
	backend, _ := kubelet(t)
	_, resp, _ := upgrade(t, front(t, backend, true, ""), "/exec/refused")
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), `unable to upgrade connection: container not found`) {
		t.Errorf("answer %d %s", resp.StatusCode, body)
	}
}

// Covers: api.logs-proxy
func TestProxyKeepsCredentialsAndRedirectsToItself(t *testing.T) {
	backend, _ := kubelet(t)
	prefix := "/api/v1/namespaces/a/pods/p/proxy"
	s := front(t, backend, false, prefix)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	get := func(path string) (*http.Response, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+prefix+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer secret")
		req.Header.Set("Impersonate-User", "root")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	if _, body := get("/some/path?q=1"); body != `GET /some/path?q=1 auth="" as=""` {
		t.Errorf("the other side saw %s", body)
	}
	resp, _ := get("/away")
	if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || got != prefix+"/elsewhere?x=1" {
		t.Errorf("redirect %d to %q", resp.StatusCode, got)
	}
}

func TestSplitProxyPath(t *testing.T) {
	for path, want := range map[string][2]string{
		"/api/v1/nodes/n/proxy":                          {"/api/v1/nodes/n/proxy", ""},
		"/api/v1/nodes/n/proxy/":                         {"/api/v1/nodes/n/proxy", "/"},
		"/api/v1/nodes/n:10250/proxy/logs/":              {"/api/v1/nodes/n:10250/proxy", "/logs/"},
		"/api/v1/namespaces/a/pods/http:p:80/proxy/x/y/": {"/api/v1/namespaces/a/pods/http:p:80/proxy", "/x/y/"},
		"/api/v1/namespaces/a/services/s/proxy":          {"/api/v1/namespaces/a/services/s/proxy", ""},
	} {
		prefix, rest := splitProxyPath(path)
		if d := cmp.Diff(want, [2]string{prefix, rest}); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
	}
}

// Only pods of the service's namespace are proxied to: who may write EndpointSlices
// would send the API server anywhere else.
//
// Covers: api.logs-proxy
func TestServicePlaces(t *testing.T) {
	ref := func(namespace, kind, name string) *corev1.ObjectReference {
		return &corev1.ObjectReference{Namespace: namespace, Kind: kind, Name: name}
	}
	for name, tc := range map[string]struct {
		endpoint discoveryv1.Endpoint
		want     string
	}{
		"pod":                   {discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, TargetRef: ref("a", "Pod", "p")}, "10.0.0.1:80"},
		"pod's second family":   {discoveryv1.Endpoint{Addresses: []string{"fd00::1"}, TargetRef: ref("a", "Pod", "p")}, "[fd00::1]:80"},
		"not ready":             {discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, TargetRef: ref("a", "Pod", "p"), Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false)}}, ""},
		"loopback":              {discoveryv1.Endpoint{Addresses: []string{"127.0.0.1"}, TargetRef: ref("a", "Pod", "p")}, ""},
		"link":                  {discoveryv1.Endpoint{Addresses: []string{"169.254.169.254"}, TargetRef: ref("a", "Pod", "p")}, ""},
		"no pod":                {discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}}, ""},
		"another address":       {discoveryv1.Endpoint{Addresses: []string{"10.0.0.9"}, TargetRef: ref("a", "Pod", "p")}, ""},
		"another namespace":     {discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, TargetRef: ref("b", "Pod", "p")}, ""},
		"another kind":          {discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, TargetRef: ref("a", "Node", "p")}, ""},
		"a pod that is not":     {discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, TargetRef: ref("a", "Pod", "q")}, ""},
		"a pod with no address": {discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}, TargetRef: ref("a", "Pod", "new")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "a", Name: name} }
			slice := &discoveryv1.EndpointSlice{
				ObjectMeta: meta("s"), Ports: []discoveryv1.EndpointPort{{Name: ptr.To("web"), Port: ptr.To[int32](80)}, {Name: ptr.To("other"), Port: ptr.To[int32](81)}},
				Endpoints: []discoveryv1.Endpoint{tc.endpoint},
			}
			slice.Labels = map[string]string{discoveryv1.LabelServiceName: "s"}
			client := fake.NewClientset(slice,
				&corev1.Service{ObjectMeta: meta("s"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "web", Port: 8080}}}},
				&corev1.Pod{ObjectMeta: meta("p"), Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}}},
				&corev1.Pod{ObjectMeta: meta("new")})
			c := &connectors{Config{Dialer: &Dialer{}, Client: client}}
			u, _, err := c.serviceBackend(t.Context(), "a", "", "s", "8080")
			got := ""
			if err == nil {
				got = u.Host
			} else if want := `no endpoints available for service "s"`; err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			if got != tc.want {
				t.Errorf("leads to %q, want %q", got, tc.want)
			}
		})
	}
}

func TestDisruptionBudget(t *testing.T) {
	for name, tc := range map[string]struct {
		pdb  policyv1.PodDisruptionBudget
		want string
	}{
		"allowed":       {pdb: policyv1.PodDisruptionBudget{Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1}}},
		"not processed": {pdb: policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b", Generation: 2}}, want: "The disruption budget b is still being processed by the server."},
		"used up": {pdb: policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Status: policyv1.PodDisruptionBudgetStatus{DesiredHealthy: 3, CurrentHealthy: 3}},
			want: "The disruption budget b needs 3 healthy pods and has 3 currently"},
	} {
		t.Run(name, func(t *testing.T) {
			err := allowed(&tc.pdb)
			got := ""
			if st, ok := err.(interface{ Status() metav1.Status }); ok {
				if st.Status().Code != http.StatusTooManyRequests {
					t.Errorf("code %d", st.Status().Code)
				}
				got = st.Status().Details.Causes[0].Message
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAssign(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"mine": "1"}}}
	assign(pod, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"mine": "2", "topology.kubernetes.io/zone": "z"}}, Target: corev1.ObjectReference{Name: "n"}})
	if pod.Spec.NodeName != "n" || pod.Labels["mine"] != "1" || pod.Labels["topology.kubernetes.io/zone"] != "z" || pod.Status.Conditions[0].Type != corev1.PodScheduled {
		t.Errorf("pod %+v", pod)
	}
}

// Covers: api.logs-proxy
func TestLogQuery(t *testing.T) {
	const invalid = `PodLogOptions "p" is invalid: `
	for query, want := range map[string]string{
		"follow=true&previous=1&timestamps=":            "follow=true&previous=true&timestamps=true",
		"follow=maybe&previous=False&timestamps=0":      "follow=true",
		"sinceSeconds=1&tailLines=0&limitBytes=1":       "limitBytes=1&sinceSeconds=1&tailLines=0",
		"sinceTime=2026-01-02T03:04:05Z":                "sinceTime=2026-01-02T03%3A04%3A05Z",
		"stream=All&tailLines=2":                        "tailLines=2",
		"stream=Stderr":                                 "stream=Stderr",
		"tailLines=-1":                                  invalid + "tailLines: Invalid value: -1: must be greater than or equal to 0",
		"sinceSeconds=0":                                invalid + "sinceSeconds: Invalid value: 0: must be greater than 0",
		"limitBytes=0":                                  invalid + "limitBytes: Invalid value: 0: must be greater than 0",
		"tailLines=many":                                `strconv.ParseInt: parsing "many": invalid syntax`,
		"tailLines=":                                    `strconv.ParseInt: parsing "": invalid syntax`,
		"sinceTime=now":                                 `parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006"`,
		"sinceTime=2026-01-02T03:04:05Z&sinceSeconds=1": invalid + "[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
		"stream=Stdout&tailLines=1":                     invalid + "[]: Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
	} {
		t.Run(query, func(t *testing.T) {
			in, err := url.ParseQuery(query)
			if err != nil {
				t.Fatal(err)
			}
			q, err := logQuery("p", in)
			got := q.Encode()
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
