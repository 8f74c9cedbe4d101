package pluginwatch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// plugin is a real registration server.
type plugin struct {
	registration.UnimplementedRegistrationServer
	info   *registration.PluginInfo
	events chan<- string
}

func (p *plugin) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return p.info, nil
}

func (p *plugin) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	p.events <- fmt.Sprintf("told %s: %t %s", p.info.Name, s.PluginRegistered, s.Error)
	return &registration.RegistrationStatusResponse{}, nil
}

// serve starts a plugin at a socket, which stays when it stops.
func serve(t *testing.T, events chan<- string, socket, kind, name string) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if l, ok := l.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	srv := grpc.NewServer()
	registration.RegisterRegistrationServer(srv, &plugin{info: &registration.PluginInfo{Type: kind, Name: name, SupportedVersions: []string{"1.0.0"}}, events: events})
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	stop = sync.OnceFunc(func() { srv.Stop(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// handler tells of what it is asked.
type handler struct{ events chan<- string }

func (h *handler) Validate(info Info) error {
	if strings.HasPrefix(info.Name, "bad") {
		return errors.New("it is bad")
	}
	return nil
}

func (h *handler) Register(_ context.Context, info Info) error {
	h.events <- fmt.Sprintf("register %s %v at %s", info.Name, info.Versions, filepath.Base(info.Endpoint))
	return nil
}

func (h *handler) Deregister(info Info) { h.events <- "deregister " + info.Name }

// start runs a watcher over a new folder.
func start(t *testing.T, events chan string) string {
	t.Helper()
	// Not t.TempDir: an address holds few characters.
	dir, err := os.MkdirTemp("", "pw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w, err := New(Config{Dir: dir, Handlers: map[string]Handler{"CSIPlugin": &handler{events}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return dir
}

func want(t *testing.T, events <-chan string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		select {
		case got := <-events:
			if got != text {
				t.Fatalf("got %q, want %q", got, text)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no %q within 20 s", text)
		}
	}
}

func TestRegistration(t *testing.T) {
	events := make(chan string, 100)
	dir := start(t, events)
	socket := filepath.Join(dir, "one.sock")
	stop := serve(t, events, socket, "CSIPlugin", "one")
	want(t, events, "register one [1.0.0] at one.sock", "told one: true ")

	t.Run("again when the socket is made anew", func(t *testing.T) {
		stop()
		fresh := filepath.Join(dir, ".fresh")
		stop = serve(t, events, fresh, "CSIPlugin", "one")
		if err := os.Rename(fresh, socket); err != nil {
			t.Fatal(err)
		}
		want(t, events, "register one [1.0.0] at one.sock", "told one: true ")
		t.Cleanup(stop)
	})
	t.Run("under another name", func(t *testing.T) {
		fresh := filepath.Join(dir, ".fresh")
		defer serve(t, events, fresh, "CSIPlugin", "other")()
		if err := os.Rename(fresh, socket); err != nil {
			t.Fatal(err)
		}
		want(t, events, "register other [1.0.0] at one.sock", "told other: true ", "deregister one")
	})
	t.Run("gone with the socket", func(t *testing.T) {
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
		want(t, events, "deregister other")
	})
	t.Run("in a folder", func(t *testing.T) {
		if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
			t.Fatal(err)
		}
		deep := filepath.Join(dir, "a", "b", "deep.sock")
		defer serve(t, events, deep, "CSIPlugin", "deep")()
		want(t, events, "register deep [1.0.0] at deep.sock", "told deep: true ")
		if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
			t.Fatal(err)
		}
		want(t, events, "deregister deep")
	})
	t.Run("behind a path that is too long for an address", func(t *testing.T) {
		long := filepath.Join(dir, strings.Repeat("l", 120))
		if err := os.Mkdir(long, 0o755); err != nil {
			t.Fatal(err)
		}
		fresh := filepath.Join(dir, ".fresh")
		defer serve(t, events, fresh, "CSIPlugin", "long")()
		if err := os.Rename(fresh, filepath.Join(long, "long.sock")); err != nil {
			t.Fatal(err)
		}
		want(t, events, "register long [1.0.0] at long.sock", "told long: true ")
		if err := os.RemoveAll(long); err != nil {
			t.Fatal(err)
		}
		want(t, events, "deregister long")
	})
}

func TestRefused(t *testing.T) {
	for _, tc := range []struct{ name, kind, plugin, want string }{
		{"by the handler", "CSIPlugin", "bad one", "told bad one: false RegisterPlugin error -- plugin validation failed with err: it is bad"},
		{"without a name", "CSIPlugin", "", `told : false RegisterPlugin error -- plugin validation failed with err: invalid plugin name ""`},
		{"of an unknown type", "Other", "x", "told x: false RegisterPlugin error -- no handler registered for plugin type: Other at socket "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			events := make(chan string, 100)
			dir := start(t, events)
			socket := filepath.Join(dir, "s.sock")
			serve(t, events, socket, tc.kind, tc.plugin)
			text := tc.want
			if strings.HasSuffix(text, "socket ") {
				text += socket
			}
			// A plugin may get better: it is asked again.
			want(t, events, text, text)
		})
	}
}

func TestPlan(t *testing.T) {
	one, two := identity{inode: 1}, identity{inode: 1, modified: syscall.Timespec{Sec: 1}}
	for _, tc := range []struct {
		name         string
		seen, served map[string]identity
		want         []step
	}{
		{"nothing", nil, nil, nil},
		{"as it was", map[string]identity{"a": one}, map[string]identity{"a": one}, nil},
		{"new", map[string]identity{"a": one}, nil, []step{{socket: "a", begin: true}}},
		{"made anew with the same inode", map[string]identity{"a": two}, map[string]identity{"a": one}, []step{{socket: "a", begin: true, end: true}}},
		{"gone", nil, map[string]identity{"a": one}, []step{{socket: "a", end: true}}},
		{"moved", map[string]identity{"b": one}, map[string]identity{"a": one}, []step{{socket: "a", end: true}, {socket: "b", begin: true}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := plan(tc.seen, tc.served)
			slices.SortFunc(got, func(a, b step) int { return strings.Compare(a.socket, b.socket) })
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(step{})); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}
