package cri_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"skiff/kubelet/cri"
	"skiff/kubelet/network"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// tools are built once for all tests.
type tools struct{ shim, probe string }

var buildTools = sync.OnceValues(func() (tools, error) {
	dir, err := os.MkdirTemp("", "skiff-cri-test-")
	if err != nil {
		return tools{}, err
	}
	t := tools{shim: filepath.Join(dir, "shim"), probe: filepath.Join(dir, "probe")}
	shim := exec.Command("go", "build", "-tags", "seccomp osusergo netgo", "-ldflags", "-s -w -linkmode external -extldflags -static", "-o", t.shim, "skiff/kubelet/cri/shim")
	shim.Env = append(os.Environ(), "CGO_ENABLED=1", "GOEXPERIMENT=jsonv2")
	if out, err := shim.CombinedOutput(); err != nil {
		return t, fmt.Errorf("build the shim: %w: %s", err, out)
	}
	probe := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", t.probe, "./testdata/probe")
	probe.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := probe.CombinedOutput(); err != nil {
		return t, fmt.Errorf("build the probe: %w: %s", err, out)
	}
	return t, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if t, err := buildTools(); err == nil {
		os.RemoveAll(filepath.Dir(t.shim))
	}
	os.Exit(code)
}

// node is a runtime on a root of its own, with a registry to pull from.
type node struct {
	t        testing.TB
	cfg      cri.Config
	net      *network.PointToPoint
	registry string
	wrap     func(network.Plugin) network.Plugin // when set, around the network

	*cri.Runtime
	stop func()
}

// shortDir is a folder with a path short enough for sockets.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "skc")
	if err != nil {
		t.Fatal(err)
	}
	// A pod's user namespace must be able to pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("folder is still in use: %v", err)
		}
	})
	return dir
}

func newNode(t testing.TB) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	built, err := buildTools()
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	sum := sha256.Sum256([]byte(dir))
	group := "/skifftest-" + hex.EncodeToString(sum[:4])
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	n := &node{t: t, registry: strings.TrimPrefix(server.URL, "http://")}
	n.cfg = cri.Config{
		StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"), Socket: filepath.Join(dir, "cri.sock"),
		CgroupRoot: group, ShimPath: built.shim, Registries: filepath.Join(dir, "registries.yaml"), Version: "v0.0.0-test",
	}
	mirror := fmt.Sprintf("mirrors:\n  docker.io:\n    endpoint: [\"%s\"]\n", server.URL)
	if err := os.WriteFile(n.cfg.Registries, []byte(mirror), 0o600); err != nil {
		t.Fatal(err)
	}
	n.push("library/probe:1", probeImage(t, built.probe))
	t.Cleanup(func() { n.checkLeaks(dir, group) })
	n.start()
	t.Cleanup(n.cleanUp)
	return n
}

// start begins a runtime on the node's state, as a new process would.
func (n *node) start() {
	n.t.Helper()
	var err error
	if n.net, err = network.New(network.Config{StateDir: filepath.Join(n.cfg.StateDir, "network")}); err != nil {
		n.t.Fatal(err)
	}
	cidr := netip.MustParsePrefix("10.213.7.0/24")
	if err := n.net.SetPodCIDRs(n.t.Context(), []netip.Prefix{cidr}); err != nil {
		n.t.Fatal(err)
	}
	n.cfg.Network = n.net
	if n.wrap != nil {
		n.cfg.Network = n.wrap(n.net)
	}
	if n.Runtime, err = cri.New(n.cfg); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	r := n.Runtime
	go func() { done <- r.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("Run: %v", err)
		}
	})
	select {
	case <-r.Ready():
	case err := <-done:
		n.t.Fatalf("Run: %v", err)
	}
}

func (n *node) cleanUp() {
	ctx := context.Background()
	list, err := n.ListPodSandbox(ctx, nil)
	if err != nil {
		n.t.Error(err)
	}
	for _, sb := range list {
		if err := n.RemovePodSandbox(ctx, sb.Id); err != nil {
			n.t.Error(err)
		}
	}
	n.stop()
}

// checkLeaks fails the test when anything of the node is left on the machine.
func (n *node) checkLeaks(dir, group string) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			n.t.Errorf("mount is left: %s", line)
		}
	}
	for _, root := range []string{n.cfg.RunDir, filepath.Join(n.cfg.StateDir, "containers"), filepath.Join(n.cfg.StateDir, "sandboxes"), filepath.Join(n.cfg.StateDir, "network", "addresses")} {
		entries, err := os.ReadDir(root)
		if err != nil {
			n.t.Error(err)
		}
		for _, e := range entries {
			n.t.Errorf("%s has %s left", root, e.Name())
		}
	}
	links, err := filepath.Glob("/sys/class/net/veth*")
	if err != nil || len(links) > 0 && os.Getenv("SKIFF_TEST_ALONE") != "" {
		n.t.Errorf("links are left: %v", links)
	}
	// The shims' own group empties when they have ended, which is right after they answered.
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		groups, err := filepath.Glob("/sys/fs/cgroup/*" + group + "/*/cgroup.procs")
		if err != nil {
			n.t.Fatal(err)
		}
		busy := ""
		for _, g := range groups {
			if data, err := os.ReadFile(g); err == nil && len(data) > 0 {
				busy = g
			}
			if !strings.Contains(g, "skiff-shims") && !strings.HasSuffix(filepath.Dir(g), "skiff-pods") {
				n.t.Errorf("cgroup is left: %s", g)
			}
		}
		if busy == "" {
			break
		}
		if time.Now().After(deadline) {
			n.t.Errorf("processes are left in %s", busy)
			break
		}
	}
	all, _ := filepath.Glob("/sys/fs/cgroup/*" + group)
	for _, g := range all {
		for _, sub := range []string{"skiff-shims", "skiff-pods"} {
			os.Remove(filepath.Join(g, sub))
		}
		if err := os.Remove(g); err != nil && !os.IsNotExist(err) {
			n.t.Errorf("cgroup is left: %v", err)
		}
	}
}

func (n *node) push(ref string, image v1.Image) {
	n.t.Helper()
	r, err := name.ParseReference(n.registry + "/" + ref)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := remote.Write(r, image); err != nil {
		n.t.Fatal(err)
	}
}

// file is an entry of a test layer.
type file struct {
	name, body string
	mode       int64
	kind       byte
	link       string
}

func layer(t testing.TB, files ...file) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		kind := f.kind
		if kind == 0 {
			kind = tar.TypeReg
		}
		h := &tar.Header{Name: f.name, Mode: f.mode, Typeflag: kind, Size: int64(len(f.body)), Linkname: f.link, ModTime: time.Unix(1700000000, 0)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func probeImage(t testing.TB, probe string) v1.Image {
	t.Helper()
	data, err := os.ReadFile(probe)
	if err != nil {
		t.Fatal(err)
	}
	base := layer(t,
		file{name: "etc/", mode: 0o755, kind: tar.TypeDir},
		file{name: "tmp/", mode: 0o1777, kind: tar.TypeDir},
		file{name: "etc/passwd", mode: 0o644, body: "root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\n"},
		file{name: "etc/group", mode: 0o644, body: "root:x:0:\napp:x:1235:\nextra:x:777:app\n"},
		file{name: "probe", mode: 0o755, body: string(data)},
	)
	image, err := mutate.AppendLayers(empty.Image, base, layer(t, file{name: "tmp/marker", mode: 0o644, body: "second layer\n"}))
	if err != nil {
		t.Fatal(err)
	}
	image, err = mutate.Config(image, v1.Config{Entrypoint: []string{"/probe"}, Cmd: []string{"sleep"}, Env: []string{"FROM_IMAGE=yes"}})
	if err != nil {
		t.Fatal(err)
	}
	cf, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", goarch
	if image, err = mutate.ConfigFile(image, cf); err != nil {
		t.Fatal(err)
	}
	return image
}

// pod runs a sandbox.
func (n *node) pod(podName string, edit ...func(*runtimeapi.PodSandboxConfig)) (string, *runtimeapi.PodSandboxConfig) {
	n.t.Helper()
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: podName, Namespace: "default", Uid: podName + "-uid"},
		Hostname: podName, LogDirectory: filepath.Join(n.cfg.StateDir, "logs", podName),
		Labels: map[string]string{"pod": podName},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: n.cfg.CgroupRoot + "/pod" + podName,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
	for _, e := range edit {
		e(cfg)
	}
	id, err := n.RunPodSandbox(n.t.Context(), cfg, "")
	if err != nil {
		n.t.Fatal(err)
	}
	return id, cfg
}

// create makes a container of the probe image.
func (n *node) create(sandbox string, scfg *runtimeapi.PodSandboxConfig, containerName string, args []string, edit ...func(*runtimeapi.ContainerConfig)) (string, error) {
	cfg := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: containerName},
		Image:    &runtimeapi.ImageSpec{Image: "probe:1"},
		Args:     args, LogPath: containerName + "/0.log",
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
		}},
	}
	for _, e := range edit {
		e(cfg)
	}
	return n.CreateContainer(n.t.Context(), sandbox, cfg, scfg)
}

// run creates and starts a container.
func (n *node) run(sandbox string, scfg *runtimeapi.PodSandboxConfig, containerName string, args []string, edit ...func(*runtimeapi.ContainerConfig)) string {
	n.t.Helper()
	id, err := n.create(sandbox, scfg, containerName, args, edit...)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.StartContainer(n.t.Context(), id); err != nil {
		n.t.Fatal(err)
	}
	return id
}

func (n *node) status(id string) *runtimeapi.ContainerStatus {
	n.t.Helper()
	resp, err := n.ContainerStatus(n.t.Context(), id, false)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.Status
}

// await blocks until a container is in a state.
func (n *node) await(id string, want runtimeapi.ContainerState) *runtimeapi.ContainerStatus {
	n.t.Helper()
	events := make(chan *runtimeapi.ContainerEventResponse, 100)
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	connected := make(chan struct{})
	go n.GetContainerEvents(ctx, events, func(runtimeapi.RuntimeService_GetContainerEventsClient) { close(connected) })
	<-connected
	for {
		if st := n.status(id); st.State == want {
			return st
		}
		select {
		case <-events:
		case <-ctx.Done():
			n.t.Fatalf("container %s is %v, want %v", id, n.status(id).State, want)
		}
	}
}

// logged blocks until a container's log holds a text.
func (n *node) logged(id, want string) string {
	n.t.Helper()
	path := n.status(id).LogPath
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), want) {
			return string(data)
		}
	}
	data, err := os.ReadFile(path)
	n.t.Fatalf("log has no %q: %q, %v", want, data, err)
	return ""
}

func (n *node) pull() {
	n.t.Helper()
	if _, err := n.PullImage(n.t.Context(), &runtimeapi.ImageSpec{Image: "probe:1"}, nil, nil); err != nil {
		n.t.Fatal(err)
	}
}
