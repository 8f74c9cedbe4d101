package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// roundTrip asks the API server as the administrator and follows no redirect.
func (s *space) roundTrip(method, path string, body string) (*http.Response, string) {
	s.t.Helper()
	transport, err := rest.TransportFor(s.config)
	s.must(err)
	client := &http.Client{
		Transport: transport, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(s.ctx, method, strings.TrimRight(s.config.Host, "/")+path, strings.NewReader(body))
	s.must(err)
	resp, err := client.Do(req)
	s.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	s.must(err)
	return resp, string(b)
}

// Conformance: [sig-network] Proxy version v1 A set of valid responses are returned for both pod and service Proxy
// Conformance: [sig-network] Proxy version v1 A set of valid responses are returned for both pod and service ProxyWithPath
func TestNetProxyVerbs(t *testing.T) {
	s := parallel(t)
	// The page at / is for GET; other methods are told what they asked.
	p := s.ready(probePod("agnhost", "serve", "--http", ":80"))
	svc := service("test-service", corev1.ServiceTypeClusterIP)
	svc.Spec.Selector, svc.Spec.Ports[0].TargetPort = p.Labels, portNumber(80)
	s.service(svc)
	s.endpointsAre("test-service", p.Status.PodIP+":80")
	base := "/api/v1/namespaces/" + s.name
	for _, target := range []string{"/pods/agnhost/proxy", "/pods/http:agnhost:80/proxy", "/services/test-service/proxy", "/services/test-service:http/proxy", "/services/http:test-service:80/proxy"} {
		for _, method := range []string{"DELETE", "OPTIONS", "PATCH", "POST", "PUT", "GET", "HEAD"} {
			for path, want := range map[string]string{"?method=" + method: "/", "/?method=" + method: "/", "/echo/path/with/" + method + "?method=" + method: "/echo/path/with/" + method} {
				sent := ""
				if method == "POST" || method == "PUT" || method == "PATCH" {
					sent = "some body"
				}
				resp, body := s.roundTrip(method, base+target+path, sent)
				if strings.HasPrefix(path, "?") && (method == "GET" || method == "HEAD") {
					// Links of a page at / lead to the right place only below a slash.
					if resp.StatusCode != http.StatusMovedPermanently || resp.Header.Get("Location") != base+target+"/?method="+method {
						t.Errorf("%s %s%s: %s to %q", method, target, path, resp.Status, resp.Header.Get("Location"))
					}
					continue
				}
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s %s%s: %s: %s", method, target, path, resp.Status, body)
					continue
				}
				if want == "/" && method == "GET" || method == "HEAD" {
					continue
				}
				got := map[string]string{}
				if err := json.Unmarshal([]byte(body), &got); err != nil {
					t.Errorf("%s %s%s: %v: %s", method, target, path, err, body)
				} else if got["method"] != method || got["path"] != want || got["query"] != "method="+method || got["body"] != sent {
					t.Errorf("%s %s%s arrived as %v", method, target, path, got)
				}
			}
		}
	}
}

// Conformance: [sig-network] Proxy version v1 should proxy through a service and a pod
func TestNetProxy(t *testing.T) {
	s := parallel(t)
	const link = `<a href="/rewriteme">test</a>`
	p := probePod("web", "serve", "--http", ":1080", "--https", ":443", "--page", link)
	for i, args := range []string{"--http :160 --https :460 --page foo", "--http :162 --https :462 --page bar"} {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
			Name: fmt.Sprintf("other%d", i), Image: "probe", Args: append([]string{"serve", "--udp", "", "--tcp", ""}, strings.Fields(args)...),
		})
	}
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "dest1", ContainerPort: 160}, {Name: "dest2", ContainerPort: 162}}
	s.ready(p)
	svc := service("web", corev1.ServiceTypeClusterIP)
	svc.Spec.Ports = []corev1.ServicePort{
		{Name: "portname1", Port: 80, TargetPort: portName("dest1")}, {Name: "portname2", Port: 81, TargetPort: portNumber(162)},
		{Name: "tlsportname1", Port: 443, TargetPort: portNumber(460)}, {Name: "tlsportname2", Port: 444, TargetPort: portNumber(462)},
	}
	s.service(svc)
	base := "/api/v1/namespaces/" + s.name
	for path, want := range map[string]string{
		"/services/web:portname1/proxy/": "foo", "/services/http:web:portname1/proxy/": "foo",
		"/services/web:portname2/proxy/": "bar", "/services/http:web:portname2/proxy/": "bar", "/services/web:80/proxy/": "foo",
		"/services/https:web:tlsportname1/proxy/": "foo", "/services/https:web:tlsportname2/proxy/": "bar", "/services/https:web:444/proxy/": "bar",
		"/pods/web:1080/proxy/": "link", "/pods/web:160/proxy/": "foo", "/pods/web:162/proxy/": "bar",
		"/pods/http:web:1080/proxy/": "link", "/pods/http:web:160/proxy/": "foo", "/pods/http:web:162/proxy/": "bar",
		"/pods/https:web:443/proxy/": "link", "/pods/https:web:460/proxy/": "foo", "/pods/https:web:462/proxy/": "bar",
	} {
		if want == "link" {
			want = `<a href="` + base + path + `rewriteme">test</a>`
		}
		s.eventually(30*time.Second, path, func() error {
			resp, body := s.roundTrip("GET", base+path, "")
			if resp.StatusCode != http.StatusOK || body != want {
				return fmt.Errorf("%s: %q, want %q", resp.Status, body, want)
			}
			return nil
		})
	}
	// A node's kubelet is reached by its name, with and without a port.
	node := s.nodes()[0].Name
	for _, path := range []string{"/api/v1/nodes/" + node + "/proxy/healthz", "/api/v1/nodes/" + node + ":10250/proxy/healthz"} {
		if resp, body := s.roundTrip("GET", path, ""); resp.StatusCode != http.StatusOK || body != "ok" {
			t.Errorf("%s: %s: %q", path, resp.Status, body)
		}
	}
	for path, want := range map[string]int{"/pods/absent/proxy/": http.StatusNotFound, "/services/absent/proxy/": http.StatusServiceUnavailable} {
		if resp, body := s.roundTrip("GET", base+path, ""); resp.StatusCode != want {
			t.Errorf("%s: %s: %q", path, resp.Status, body)
		}
	}
}
