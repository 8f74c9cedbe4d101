// Package nodetest runs the kubelet on the real container runtime: the two
// have to fit. It needs root, and busybox for its image.
package nodetest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/ptr"

	"skiff/kubelet"
	"skiff/kubelet/config"
	"skiff/kubelet/cri"
	"skiff/kubelet/network"
)

var buildShim = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "skiff-nodetest-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "shim")
	build := exec.Command("go", "build", "-tags", "seccomp osusergo netgo", "-ldflags", "-s -w -linkmode external -extldflags -static", "-o", path, "skiff/kubelet/cri/shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "GOEXPERIMENT=jsonv2")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the shim: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getuid() == 0 {
		if path, err := buildShim(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// node is a kubelet on a runtime of its own.
type node struct {
	t       *testing.T
	dir     string
	client  *fake.Clientset
	address string
	runtime *cri.Runtime
	stop    func()
}

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	busybox, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Skip("needs busybox (package busybox-static)")
	}
	dir, err := os.MkdirTemp("", "skn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(filepath.Join(dir, "kubelet"), 0) // where the machine's mounts are private
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("folder is still in use: %v", err)
		}
	})
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/library/busybox:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image(t, busybox)); err != nil {
		t.Fatal(err)
	}
	mirror := fmt.Sprintf("mirrors:\n  docker.io:\n    endpoint: [\"%s\"]\n", server.URL)
	if err := os.WriteFile(filepath.Join(dir, "registries.yaml"), []byte(mirror), 0o600); err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: dir, client: fake.NewClientset()}
	t.Cleanup(n.removeCgroups)
	n.start()
	t.Cleanup(func() { n.stop() })
	return n
}

func image(t *testing.T, busybox []byte) ggcr.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h *tar.Header, body []byte) {
		h.Size, h.ModTime = int64(len(body)), time.Unix(1700000000, 0)
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin/", "etc/", "tmp/"} {
		add(&tar.Header{Name: d, Mode: 0o755, Typeflag: tar.TypeDir}, nil)
	}
	add(&tar.Header{Name: "bin/busybox", Mode: 0o755, Typeflag: tar.TypeReg}, busybox)
	for _, link := range []string{"sh", "cat", "sleep", "echo", "httpd", "hostname", "ls"} {
		add(&tar.Header{Name: "bin/" + link, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Config.Env = "linux", runtime.GOARCH, []string{"PATH=/bin"}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

func (n *node) group() string { return "/" + filepath.Base(n.dir) }

// start runs a runtime and a kubelet on what is on disk.
func (n *node) start() {
	n.t.Helper()
	shim, err := buildShim()
	if err != nil {
		n.t.Fatal(err)
	}
	net1, err := network.New(network.Config{StateDir: filepath.Join(n.dir, "network")})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := net1.SetPodCIDRs(n.t.Context(), []netip.Prefix{netip.MustParsePrefix("10.214.9.0/24")}); err != nil {
		n.t.Fatal(err)
	}
	rt, err := cri.New(cri.Config{
		StateDir: filepath.Join(n.dir, "state"), RunDir: filepath.Join(n.dir, "run"), CgroupRoot: n.group(), ShimPath: shim,
		Registries: filepath.Join(n.dir, "registries.yaml"), Network: net1, Version: "v0.0.0-test",
	})
	if err != nil {
		n.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.runtime = rt
	n.address = listener.Addr().String()
	kc := config.Default()
	// How full the machine's disk is with what others have does not matter here.
	kc.EvictionHard = map[string]string{"memory.available": "1Mi"}
	kc.HealthzPort, kc.Authorization.Mode, kc.Authentication.Anonymous.Enabled = ptr.To[int32](0), "AlwaysAllow", ptr.To(true)
	k, err := kubelet.New(kubelet.Config{
		Client: n.client, NodeName: "n1", NodeIPs: []string{"127.0.0.1"}, Runtime: rt, Images: rt, Streaming: rt.StreamingHandler(), Kubelet: kc, Listener: listener,
		Paths: kubelet.Paths{Root: filepath.Join(n.dir, "kubelet"), PodLogs: filepath.Join(n.dir, "pods"), ContainerLogs: filepath.Join(n.dir, "containers"), CgroupRoot: n.group()},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	rtCtx, rtCancel := context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	rtDone, done := make(chan error, 1), make(chan error, 1)
	go func() { rtDone <- rt.Run(rtCtx) }()
	select {
	case <-rt.Ready():
	case err := <-rtDone:
		n.t.Fatalf("runtime: %v", err)
	}
	go func() { done <- k.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("kubelet: %v", err)
		}
		rtCancel()
		if err := <-rtDone; err != nil {
			n.t.Errorf("runtime: %v", err)
		}
	})
	select {
	case <-k.Ready():
	case <-time.After(20 * time.Second):
		n.t.Fatal("the kubelet did not become ready")
	}
}

func (n *node) removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup/*" + n.group(), "/sys/fs/cgroup" + n.group()} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			var below []string
			_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					below = append(below, p)
				}
				return nil
			})
			for i := len(below) - 1; i >= 0; i-- {
				if strings.Contains(below[i], "/pod") {
					n.t.Errorf("cgroup is left: %s", below[i])
				}
				_ = os.Remove(below[i])
			}
		}
	}
}

func (n *node) wait(name, what string, ok func(*v1.Pod) bool) *v1.Pod {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	w, err := n.client.CoreV1().Pods("ns").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	defer w.Stop()
	last, err := n.client.CoreV1().Pods("ns").Get(ctx, name, metav1.GetOptions{})
	if err == nil && ok(last) {
		return last
	}
	for {
		select {
		case e := <-w.ResultChan():
			if pod, is := e.Object.(*v1.Pod); is && pod.Name == name {
				if e.Type == watch.Deleted {
					pod = nil
				} else {
					last = pod
				}
				if ok(pod) {
					return pod
				}
			}
		case <-ctx.Done():
			n.t.Fatalf("pod %s: waited for %s; last status %+v", name, what, last.Status)
		}
	}
}

// waitEmpty waits until the runtime holds nothing any more.
func (n *node) waitEmpty() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		sandboxes, err := n.runtime.ListPodSandbox(ctx, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		logs, err := filepath.Glob(filepath.Join(n.dir, "pods", "*"))
		if err != nil {
			n.t.Fatal(err)
		}
		if len(sandboxes)+len(logs) == 0 {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			n.t.Fatalf("left behind: %v %v", sandboxes, logs)
		}
	}
}

func (n *node) get(path string) string {
	n.t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Get("https://" + n.address + path)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		n.t.Fatalf("GET %s: %v %s: %s", path, err, resp.Status, body)
	}
	return string(body)
}

// exec runs a command as kubectl does.
func (n *node) exec(path string) string {
	n.t.Helper()
	u, err := url.Parse("https://" + n.address + path)
	if err != nil {
		n.t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{Host: n.address, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, http.MethodPost, u)
	if err != nil {
		n.t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut}); err != nil {
		n.t.Fatalf("exec: %v: %s", err, &errOut)
	}
	return out.String()
}

func ready(p *v1.Pod) bool {
	if p == nil || p.Status.Phase != v1.PodRunning {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func TestPodOnTheRealRuntime(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	if _, err := n.client.CoreV1().ConfigMaps("ns").Create(ctx, &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm", Namespace: "ns"}, Data: map[string]string{"k": "from-configmap"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	script := `echo "$GREETING $(cat /cm/k) $(cat /sub/k)"; echo scratch > /scratch/f; echo -n bye > /dev/termination-log; exec httpd -f -p 8080 -h /scratch`
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "ns", UID: types.UID("a-uid")}, Spec: v1.PodSpec{
		NodeName: "n1", RestartPolicy: v1.RestartPolicyAlways, TerminationGracePeriodSeconds: ptr.To[int64](2),
		InitContainers: []v1.Container{{Name: "i", Image: "busybox:1", Command: []string{"sh", "-c", "echo init"}}},
		Containers: []v1.Container{{
			Name: "c", Image: "busybox:1", Command: []string{"sh", "-c", script}, Env: []v1.EnvVar{{Name: "GREETING", Value: "hello"}},
			TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: v1.TerminationMessageReadFile,
			Resources:    v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("50m")}, Limits: v1.ResourceList{v1.ResourceMemory: resource.MustParse("64Mi")}},
			VolumeMounts: []v1.VolumeMount{{Name: "cm", MountPath: "/cm"}, {Name: "cm", MountPath: "/sub/k", SubPath: "k"}, {Name: "scratch", MountPath: "/scratch"}},
			ReadinessProbe: &v1.Probe{PeriodSeconds: 1, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
				ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"cat", "/scratch/f"}}}},
		}},
		Volumes: []v1.Volume{
			{Name: "cm", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}}},
			{Name: "scratch", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
		},
	}}
	if _, err := n.client.CoreV1().Pods("ns").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := n.wait("a", "ready", ready)
	if got := n.get("/containerLogs/ns/a/c"); got != "hello from-configmap from-configmap\n" {
		t.Errorf("log %q", got)
	}
	if got := n.get("/containerLogs/ns/a/i"); got != "init\n" {
		t.Errorf("init log %q", got)
	}
	for _, path := range []string{"/stats/summary", "/pods", "/metrics/resource", "/metrics/cadvisor", "/metrics", "/configz"} {
		if got := n.get(path); !strings.Contains(got, "\n") && !strings.HasPrefix(got, "{") {
			t.Errorf("%s answers %q", path, got)
		}
	}
	if got := n.exec("/exec/ns/a/c?command=cat&command=/scratch/f&output=1&error=1"); got != "scratch\n" {
		t.Errorf("exec printed %q", got)
	}
	n.stop()
	n.start()
	after := n.wait("a", "ready after a restart", ready)
	if a, b := before.Status.ContainerStatuses[0].ContainerID, after.Status.ContainerStatuses[0].ContainerID; a != b {
		t.Errorf("container %s was replaced by %s", a, b)
	}
	after.DeletionTimestamp, after.DeletionGracePeriodSeconds = ptr.To(metav1.Now()), ptr.To[int64](2)
	if _, err := n.client.CoreV1().Pods("ns").Update(ctx, after, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.wait("a", "deleted", func(p *v1.Pod) bool { return p == nil })
	n.waitEmpty()
}
