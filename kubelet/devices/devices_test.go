package devices

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"skiff/kubelet/topology"
	"skiff/testdata/deviceplugin"
)

const toy = "example.com/toy"

// node is a manager that runs, and what it told.
type node struct {
	*Manager
	t       *testing.T
	dir     string
	changed chan struct{}
	notes   chan types.UID
	stop    func()
}

func newNode(t *testing.T) *node {
	t.Helper()
	// Not t.TempDir: an address holds few characters.
	dir, err := os.MkdirTemp("", "dev")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := &node{t: t, dir: dir}
	n.start()
	t.Cleanup(func() { n.stop() })
	return n
}

func (n *node) start() {
	n.t.Helper()
	n.changed, n.notes = make(chan struct{}, 100), make(chan types.UID, 100)
	var err error
	n.Manager, err = New(Config{Dir: n.dir, Nodes: []int{0, 1}, Changed: func() { n.changed <- struct{}{} }, Notify: func(uid types.UID) { n.notes <- uid }})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.Restore(); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	m := n.Manager
	go func() { done <- m.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("Run: %v", err)
		}
	})
}

// register serves a plugin with the devices and registers it; the returned
// function ends it.
func (n *node) register(devices ...*pluginapi.Device) (p *deviceplugin.Plugin, stop func()) {
	n.t.Helper()
	p = &deviceplugin.Plugin{Resource: toy, Dir: n.dir, CDI: true}
	p.Set(devices...)
	stop, err := p.Start(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(stop)
	return p, stop
}

// wait waits until the node's resource is as wanted.
func (n *node) wait(capacity, allocatable int64) {
	n.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		c, a := n.Capacity()
		all, healthy := c[toy], a[toy]
		if _, ok := c[toy]; ok && all.Value() == capacity && healthy.Value() == allocatable {
			return
		}
		select {
		case <-n.changed:
		case <-timeout:
			n.t.Fatalf("capacity %v, allocatable %v, want %d and %d", all.Value(), healthy.Value(), capacity, allocatable)
		}
	}
}

func list(health string, ids ...string) []*pluginapi.Device {
	var out []*pluginapi.Device
	for _, id := range ids {
		out = append(out, deviceplugin.Device(id, health))
	}
	return out
}

func pod(name string, toys ...int64) *v1.Pod {
	p := &v1.Pod{}
	p.Name, p.UID = name, types.UID(name)
	for i, n := range toys {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: fmt.Sprintf("c%d", i), Resources: v1.ResourceRequirements{Limits: v1.ResourceList{toy: *apiresource.NewQuantity(n, apiresource.DecimalSI)}}})
	}
	return p
}

func (n *node) allocate(p *v1.Pod) error {
	for _, l := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range l {
			if err := n.Allocate(n.t.Context(), p, &l[i], topology.Hint{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *node) holds(p *v1.Pod) []string {
	var out []string
	for i := range p.Spec.Containers {
		for _, d := range n.Devices(p.UID, p.Spec.Containers[i].Name) {
			out = append(out, d.IDs...)
		}
	}
	slices.Sort(out)
	return out
}

// Covers: node.device-plugins
func TestAllocation(t *testing.T) {
	n := newNode(t)
	p, _ := n.register(list(pluginapi.Healthy, "t1", "t2", "t3")...)
	n.wait(3, 3)
	one, two := pod("one", 1), pod("two", 1, 1)
	for _, each := range []*v1.Pod{one, two} {
		if err := n.allocate(each); err != nil {
			t.Fatal(err)
		}
	}
	// The plugin prefers the last.
	if diff := cmp.Diff([]string{"t3"}, n.holds(one)); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"t1", "t2"}, n.holds(two)); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	if err := n.allocate(one); err != nil {
		t.Errorf("a pod that has its devices: %v", err)
	}
	want := "requested number of devices unavailable for example.com/toy. Requested: 1, Available: 0"
	if err := n.allocate(pod("three", 1)); err == nil || err.Error() != want {
		t.Errorf("a pod too many: got %v, want %s", err, want)
	}
	options, err := n.Options(t.Context(), one, &one.Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	if options.Envs["TOYS"] != "t3" || options.Annotations["example.com/toys"] != "t3" || len(options.Devices) != 1 || !slices.Equal(options.CDI, []string{toy + "=t3"}) {
		t.Errorf("options: got %+v", options)
	}
	if !slices.Equal(p.Started(), []string{"t3"}) {
		t.Errorf("PreStartContainer was asked for %v, want t3", p.Started())
	}
	if err := n.Release("one"); err != nil {
		t.Fatal(err)
	}
	if err := n.allocate(pod("three", 1)); err != nil {
		t.Errorf("after one was given back: %v", err)
	}
}

func TestInitContainersLendTheirDevices(t *testing.T) {
	n := newNode(t)
	n.register(list(pluginapi.Healthy, "t1", "t2")...)
	n.wait(2, 2)
	lender := pod("lender", 2)
	lender.Spec.InitContainers = []v1.Container{lender.Spec.Containers[0]}
	lender.Spec.InitContainers[0].Name = "init"
	if err := n.allocate(lender); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"t1", "t2"}, n.holds(lender)); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
}

func TestHealth(t *testing.T) {
	n := newNode(t)
	p, stop := n.register(list(pluginapi.Healthy, "t1", "t2")...)
	n.wait(2, 2)
	holder := pod("holder", 1)
	if err := n.allocate(holder); err != nil {
		t.Fatal(err)
	}
	status := func(health v1.ResourceHealthStatus) {
		t.Helper()
		want := []v1.ResourceStatus{{Name: toy, Resources: []v1.ResourceHealth{{ResourceID: "t2", Health: health}}}}
		if diff := cmp.Diff(want, n.Status("holder", "c0")); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
	}
	status(v1.ResourceHealthStatusHealthy)
	p.Set(deviceplugin.Device("t1", pluginapi.Healthy), deviceplugin.Device("t2", pluginapi.Unhealthy))
	select {
	case uid := <-n.notes:
		if uid != "holder" {
			t.Errorf("told of pod %s", uid)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told of the device's health")
	}
	n.wait(2, 1)
	status(v1.ResourceHealthStatusUnhealthy)
	stop()
	n.wait(2, 0)
	want := "no healthy devices present; cannot allocate unhealthy devices example.com/toy"
	if err := n.allocate(pod("late", 1)); err == nil || err.Error() != want {
		t.Errorf("without the plugin: got %v, want %s", err, want)
	}
}

func TestRestart(t *testing.T) {
	n := newNode(t)
	_, stop := n.register(list(pluginapi.Healthy, "t1", "t2")...)
	n.wait(2, 2)
	holder := pod("holder", 1)
	if err := n.allocate(holder); err != nil {
		t.Fatal(err)
	}
	n.stop()
	stop()
	n.start()
	n.wait(0, 0)
	if diff := cmp.Diff([]string{"t2"}, n.holds(holder)); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	if options, err := n.Options(t.Context(), holder, &holder.Spec.Containers[0]); err != nil || options.Envs["TOYS"] != "t2" {
		t.Errorf("options before the plugin is back: got %+v, %v", options, err)
	}
	n.register(list(pluginapi.Healthy, "t1", "t2")...)
	n.wait(2, 2)
	other := pod("other", 1)
	if err := n.allocate(other); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"t1"}, n.holds(other)); diff != "" {
		t.Errorf("the other pod (-want +got):\n%s", diff)
	}
}

func TestRefusedRegistrations(t *testing.T) {
	n := newNode(t)
	for _, tc := range []struct {
		name string
		in   *pluginapi.RegisterRequest
		want string
	}{
		{"version", &pluginapi.RegisterRequest{Version: "v1alpha", Endpoint: "x", ResourceName: toy}, `requested API version "v1alpha" is not supported by kubelet. Supported version is ["v1beta1"]`},
		{"resource", &pluginapi.RegisterRequest{Version: "v1beta1", Endpoint: "x", ResourceName: "cpu"}, `the ResourceName "cpu" is invalid`},
		{"socket", &pluginapi.RegisterRequest{Version: "v1beta1", Endpoint: "../x", ResourceName: toy}, `endpoint "../x"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := deviceplugin.Register(t.Context(), n.dir, tc.in); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}
