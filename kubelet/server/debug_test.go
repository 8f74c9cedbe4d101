package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/config"
)

// checkpointer is a runtime that writes checkpoints, or fails.
type checkpointer struct {
	internalapi.RuntimeService
	err error
}

func (c checkpointer) CheckpointContainer(_ context.Context, r *runtimeapi.CheckpointContainerRequest) error {
	if c.err != nil {
		return c.err
	}
	return os.WriteFile(r.Location, []byte(r.ContainerId), 0o600)
}

// onePod is a node with the pod ns/web and its container c.
type onePod struct{}

func (onePod) Pods() []*v1.Pod                                { return nil }
func (onePod) RunningPods(context.Context) ([]*v1.Pod, error) { return nil, nil }

func (onePod) PodByName(namespace, name string) *v1.Pod {
	if namespace != "ns" || name != "web" {
		return nil
	}
	p := &v1.Pod{}
	p.Namespace, p.Name = namespace, name
	p.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "c", ContainerID: "skiff://abc"}}
	return p
}

func ask(s *Server, method, path, body string) (int, string) {
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestCheckpoint(t *testing.T) {
	for _, c := range []struct {
		name, path string
		err        error
		code       int
		want       string
	}{
		{"taken", "/checkpoint/ns/web/c?timeout=5", nil, http.StatusOK, "checkpoint-web_ns-c-"},
		{"no pod", "/checkpoint/ns/none/c", nil, http.StatusNotFound, "does not exist"},
		{"no container", "/checkpoint/ns/web/none", nil, http.StatusNotFound, "container none does not exist"},
		{"no number", "/checkpoint/ns/web/c?timeout=soon", nil, http.StatusNotFound, "cannot parse value of timeout parameter"},
		{"a runtime that cannot", "/checkpoint/ns/web/c", status.Error(codes.Unimplemented, "method CheckpointContainer not implemented"), http.StatusInternalServerError,
			"checkpointing of ns/web/c failed (rpc error: code = Unimplemented desc = method CheckpointContainer not implemented)"},
		{"a runtime that fails", "/checkpoint/ns/web/c", status.Error(codes.Unknown, "disk full"), http.StatusInternalServerError, "checkpointing of ns/web/c failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "checkpoints")
			s := newServer(Config{Kubelet: config.Default(), Pods: onePod{}, Runtime: checkpointer{err: c.err}, CheckpointDir: dir})
			code, body := ask(s, http.MethodPost, c.path, "")
			if code != c.code || !strings.Contains(body, c.want) {
				t.Errorf("%d %s, want %d with %q", code, body, c.code, c.want)
			}
			if c.code != http.StatusOK {
				return
			}
			info, err := os.Stat(dir)
			if err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the folder: %v, %v; want mode 0700", info, err)
			}
			files, err := filepath.Glob(dir + "/*.tar")
			if err != nil || len(files) != 1 || !strings.Contains(body, files[0]) {
				t.Errorf("files %v, %v; the answer is %s", files, err, body)
			}
		})
	}
}

func TestDebugHandlersCanBeTurnedOff(t *testing.T) {
	off := false
	for _, c := range []struct {
		name         string
		set          func(*Config)
		method, path string
		want         int
	}{
		{"profile", func(*Config) {}, http.MethodGet, "/debug/pprof/goroutine?debug=1", http.StatusOK},
		{"no profile", func(c *Config) { c.Kubelet.EnableProfilingHandler = &off }, http.MethodGet, "/debug/pprof/goroutine?debug=1", http.StatusNotFound},
		{"no verbosity", func(c *Config) { c.Kubelet.EnableDebugFlagsHandler = &off }, http.MethodPut, "/debug/flags/v", http.StatusNotFound},
		{"nothing", func(c *Config) { c.Kubelet.EnableDebuggingHandlers = &off }, http.MethodGet, "/debug/pprof/goroutine?debug=1", http.StatusNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Kubelet: config.Default()}
			c.set(&cfg)
			if code, body := ask(newServer(cfg), c.method, c.path, "0"); code != c.want {
				t.Errorf("%d %s, want %d", code, body, c.want)
			}
		})
	}
	if code, body := ask(newServer(Config{Kubelet: config.Default()}), http.MethodPut, "/debug/flags/v", "loud"); code != http.StatusBadRequest {
		t.Errorf("verbosity loud: %d %s", code, body)
	}
}
