package server

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
	internalapi "k8s.io/cri-api/pkg/apis"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/kubelet/config"
	"skiff/kubelet/stats"
)

// noPods is a node without any.
type noPods struct{}

func (noPods) Pods() []*v1.Pod                                { return nil }
func (noPods) RunningPods(context.Context) ([]*v1.Pod, error) { return nil, nil }
func (noPods) PodByName(string, string) *v1.Pod               { return nil }

// Runtimes that are never asked.
type (
	noRuntime struct{ internalapi.RuntimeService }
	noImages  struct {
		internalapi.ImageManagerService
	}
)

// serve runs the handler of a kubelet that knows the tokens "admin", who may do
// everything, and "nobody", who may do nothing.
func serve(t *testing.T, logs string) *httptest.Server {
	t.Helper()
	return serveAs(t, logs, func(*kubeletv1beta1.KubeletConfiguration) {})
}

func serveAs(t *testing.T, logs string, set func(*kubeletv1beta1.KubeletConfiguration)) *httptest.Server {
	t.Helper()
	c := config.Default()
	set(c)
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		r := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		r.Status.Authenticated = r.Spec.Token == "admin" || r.Spec.Token == "nobody"
		r.Status.User.Username = r.Spec.Token
		return true, r, nil
	})
	client.PrependReactor("create", "subjectaccessreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		r := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
		r.Status.Allowed = r.Spec.User == "admin"
		return true, r, nil
	})
	measured, err := stats.New(stats.Config{Runtime: noRuntime{}, Images: noImages{}, Pods: func() []*v1.Pod { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Client: client, Kubelet: c, NodeName: "n", Runtime: noRuntime{}, Pods: noPods{}, Stats: measured, LogsDir: logs, CheckpointDir: t.TempDir(), Flags: map[string]string{"v": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return h
}

func get(t *testing.T, s *httptest.Server, method, path, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Nothing of the kubelet is for those whom it does not know, or who may not, not
// even what does not exist: no profile (CVE-2019-11248), nothing that costs
// memory (CVE-2020-8551) or disk (CVE-2025-0426). There is no port that is open
// to all.
//
// Covers: node.endpoints
func TestNothingWithoutRights(t *testing.T) {
	s := serve(t, t.TempDir())
	for _, path := range []string{
		"/", "/pods", "/runningpods/", "/stats/summary", "/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes", "/metrics/slis", "/healthz", "/configz", "/statusz", "/flagz", "/logs/",
		"/containerLogs/ns/p/c", "/exec/ns/p/c", "/attach/ns/p/c", "/portForward/ns/p", "/run/ns/p/c", "/cri/exec/x",
		"/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/cmdline", "/debug/flags/v", "/checkpoint/ns/p/c", "/spec/", "/nothing",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			for token, want := range map[string]int{"": http.StatusUnauthorized, "forged": http.StatusUnauthorized, "nobody": http.StatusForbidden} {
				if code, body := get(t, s, method, path, token); code != want {
					t.Errorf("%s %s with the token %q: %d, want %d: %s", method, path, token, code, want, body)
				}
			}
		}
	}
	if code, _ := get(t, s, http.MethodGet, "/healthz", "admin"); code != http.StatusOK {
		t.Errorf("healthz for who may: %d", code)
	}
	if k := config.Default(); k.ReadOnlyPort != 0 || *k.Authentication.Anonymous.Enabled {
		t.Errorf("by default the read-only port is %d, anonymous access is %v", k.ReadOnlyPort, *k.Authentication.Anonymous.Enabled)
	}
}

// A pod that may write to the node's logs cannot make the kubelet show other files
// of the host: links lead nowhere outside, and neither do paths (kube-hunter's
// /var/log mount, kubernetes issue 81125).
//
// Covers: node.endpoints
func TestLogsStayInTheirFolder(t *testing.T) {
	host, logs := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{filepath.Join(host, "secret"): "host's", filepath.Join(logs, "a.log"): "line", filepath.Join(logs, "pods", "b.log"): "deep"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"file": filepath.Join(host, "secret"), "folder": host, "up": "../" + filepath.Base(host) + "/secret", "root": "/", "inside.log": "pods/b.log"} {
		if err := os.Symlink(to, filepath.Join(logs, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, logs)
	for path, want := range map[string]string{"a.log": "line", "pods/b.log": "deep", "inside.log": "deep"} {
		if code, body := get(t, s, http.MethodGet, "/logs/"+path, "admin"); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	outside := strings.TrimPrefix(filepath.Join(host, "secret"), "/")
	for _, path := range []string{"file", "folder/", "folder/secret", "up", "root/", "root/" + outside, "../" + filepath.Base(host) + "/secret",
		"%2e%2e/" + filepath.Base(host) + "/secret", "..%2f" + filepath.Base(host) + "%2fsecret", "%2f" + outside, "/" + outside} {
		if code, body := get(t, s, http.MethodGet, "/logs/"+path, "admin"); code < 300 || strings.Contains(body, "host's") {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}

// Who reads one page of a node may have no right to the others, as upstream's
// subresources have it.
//
// Covers: node.endpoints
func TestSubresources(t *testing.T) {
	for path, want := range map[string][]string{
		"/stats/summary": {"stats"}, "/metrics": {"metrics"}, "/metrics/slis": {"metrics"}, "/metrics/cadvisor": {"metrics"},
		"/logs/a": {"log"}, "/checkpoint/ns/p/c": {"checkpoint"}, "/statusz": {"statusz"}, "/flagz": {"flagz"},
		"/healthz": {"healthz", "proxy"}, "/healthz/ping": {"healthz", "proxy"}, "/pods": {"pods", "proxy"}, "/runningpods/": {"pods", "proxy"},
		"/configz": {"configz", "proxy"}, "/exec/ns/p/c": {"proxy"}, "/statuszz": {"proxy"},
	} {
		_, got := attributes(httptest.NewRequest(http.MethodGet, path, nil))
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
	}
}

// Covers: node.endpoints
func TestIntrospection(t *testing.T) {
	s := serve(t, t.TempDir())
	for _, path := range []string{"/healthz", "/healthz/syncloop"} {
		if code, body := get(t, s, http.MethodGet, path, "admin"); code != http.StatusOK || body != "ok" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for path, want := range map[string]string{
		"/statusz":      "Paths: /attach /checkpoint /configz ",
		"/flagz":        "kubelet flagz\n",
		"/metrics/slis": `kubernetes_healthchecks_total{name="syncloop",status="success",type="healthz"} 2`,
	} {
		if code, body := get(t, s, http.MethodGet, path, "admin"); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, want %q in %s", path, code, want, body)
		}
	}
	if _, body := get(t, s, http.MethodGet, "/flagz", "admin"); !strings.Contains(body, "v=2\n") {
		t.Errorf("flagz without the flag v: %s", body)
	}
}
