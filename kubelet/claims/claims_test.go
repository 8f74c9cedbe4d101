package claims

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	healthv1 "k8s.io/kubelet/pkg/apis/dra-health/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/pluginwatch"
	"skiff/testdata/dradriver"
)

const driverName = "toys.example.com"

// node is a manager that runs with a plugin watcher.
type node struct {
	*Manager
	t      *testing.T
	dir    string
	client *fake.Clientset
	notes  chan types.UID
	stop   func()
}

func newNode(t *testing.T) *node {
	t.Helper()
	// Not t.TempDir: an address holds few characters.
	dir, err := os.MkdirTemp("", "cl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := &node{t: t, dir: dir, client: fake.NewClientset()}
	n.start(10 * time.Minute)
	t.Cleanup(func() { n.stop() })
	return n
}

func (n *node) start(grace time.Duration) {
	n.t.Helper()
	n.notes = make(chan types.UID, 100)
	notes := n.notes
	var err error
	n.Manager, err = New(Config{Client: n.client, NodeName: "n1", Dir: n.dir, Grace: grace, Notify: func(uid types.UID) { notes <- uid }})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.Restore(); err != nil {
		n.t.Fatal(err)
	}
	w, err := pluginwatch.New(pluginwatch.Config{Dir: filepath.Join(n.dir, "plugins_registry"), Handlers: map[string]pluginwatch.Handler{"DRAPlugin": n.Handler()}})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{n.Run, w.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				n.t.Errorf("Run: %v", err)
			}
		})
	}
	n.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// until asks until check is content.
func (n *node) until(what string, check func() bool) {
	n.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !check(); <-tick.C {
		if time.Now().After(end) {
			n.t.Fatalf("waited for %s", what)
		}
	}
}

func (n *node) driverUp(beta bool) (*dradriver.Driver, func()) {
	n.t.Helper()
	d := &dradriver.Driver{Name: driverName, Kubelet: n.dir, CDI: filepath.Join(n.dir, "cdi"), Client: n.client, Beta: beta}
	stop, err := d.Start()
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(stop)
	n.until("the driver", func() bool { _, err := n.driver(driverName); return err == nil })
	return d, stop
}

// allocated makes a claim that has devices and is reserved for pods.
func (n *node) allocated(name string, pods []string, devices ...string) {
	n.t.Helper()
	c := &resourceapi.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID("uid-" + name)}}
	c.Status.Allocation = &resourceapi.AllocationResult{}
	for _, d := range devices {
		request, device, _ := strings.Cut(d, "=")
		c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results, resourceapi.DeviceRequestAllocationResult{Request: request, Driver: driverName, Pool: "n1", Device: device})
	}
	for _, p := range pods {
		c.Status.ReservedFor = append(c.Status.ReservedFor, resourceapi.ResourceClaimConsumerReference{Resource: "pods", Name: p, UID: types.UID(p)})
	}
	if _, err := n.client.ResourceV1().ResourceClaims("ns").Create(n.t.Context(), c, metav1.CreateOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

// pod uses a claim under the name toy; its containers refer to requests.
func pod(name, claim string, requests ...string) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name)}}
	p.Spec.ResourceClaims = []v1.PodResourceClaim{{Name: "toy", ResourceClaimName: &claim}}
	for _, r := range requests {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "c-" + r, Resources: v1.ResourceRequirements{Claims: []v1.ResourceClaim{{Name: "toy", Request: r}}}})
	}
	return p
}

// Covers: node.dra
func TestPrepare(t *testing.T) {
	for _, beta := range []bool{false, true} {
		n := newNode(t)
		d, _ := n.driverUp(beta)
		n.allocated("c", []string{"p"}, "a=t1", "b/small=t2")
		p := pod("p", "c", "", "a", "b")
		if err := n.Prepare(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		cdi := func(names ...string) []string {
			for i := range names {
				names[i] = driverName + "/claim=uid-c-" + names[i]
			}
			return names
		}
		for i, want := range [][]string{cdi("t1", "t2"), cdi("t1"), cdi("t2")} {
			got, err := n.CDI(p, &p.Spec.Containers[i])
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("beta %t, container %s: %v (-want +got):\n%s", beta, p.Spec.Containers[i].Name, err, diff)
			}
		}
		if err := n.Unprepare(t.Context(), "p"); err != nil {
			t.Fatal(err)
		}
		if left := d.Prepared(); len(left) > 0 {
			t.Errorf("beta %t: prepared are still %v", beta, left)
		}
		if _, err := n.CDI(p, &p.Spec.Containers[0]); err == nil {
			t.Errorf("beta %t: the pod has devices after its claim was unprepared", beta)
		}
	}
}

// TestExtendedResources: a claim that the scheduler made gives containers devices in
// place of a device plugin's.
func TestExtendedResources(t *testing.T) {
	n := newNode(t)
	d, _ := n.driverUp(false)
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "p"}}
	p.Spec.Containers = []v1.Container{{Name: "a"}, {Name: "b"}, {Name: "none"}}
	p.Status.ExtendedResourceClaimStatus = &v1.PodExtendedResourceClaimStatus{ResourceClaimName: "c", RequestMappings: []v1.ContainerExtendedResourceRequest{
		{ContainerName: "a", ResourceName: "example.com/toy", RequestName: "container-0-request-0"},
		{ContainerName: "a", ResourceName: "example.com/toy", RequestName: "container-1-request-0"},
		{ContainerName: "b", ResourceName: "example.com/toy", RequestName: "container-1-request-0"},
	}}
	n.allocated("c", []string{"p"}, "container-0-request-0=t1", "container-1-request-0=t2")
	if err := n.Prepare(t.Context(), p); err == nil || !strings.Contains(err.Error(), "Pod is not owner") {
		t.Fatalf("a claim that was not made for the pod: %v", err)
	}
	o, err := n.client.ResourceV1().ResourceClaims("ns").Get(t.Context(), "c", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(p, v1.SchemeGroupVersion.WithKind("Pod"))}
	if _, err := n.client.ResourceV1().ResourceClaims("ns").Update(t.Context(), o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := n.Prepare(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"t1 t2", "t2", ""} {
		c := &p.Spec.Containers[i]
		names, err := n.CDI(p, c)
		var devices []string
		for _, name := range names {
			devices = append(devices, strings.TrimPrefix(name, driverName+"/claim=uid-c-"))
		}
		if got := strings.Join(devices, " "); err != nil || got != want {
			t.Errorf("container %s has the devices %q, %v, want %q", c.Name, got, err, want)
		}
		status := n.Status(p, c)
		if want == "" {
			if len(status) > 0 {
				t.Errorf("container %s has the status %v", c.Name, status)
			}
		} else if len(status) != 1 || status[0].Name != "example.com/toy" || len(status[0].Resources) != len(names) {
			t.Errorf("container %s has the status %v, want one of example.com/toy with %d devices", c.Name, status, len(names))
		}
	}
	if err := n.Unprepare(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	if left := d.Prepared(); len(left) > 0 {
		t.Errorf("prepared are still %v", left)
	}
}

func TestRefusals(t *testing.T) {
	n := newNode(t)
	n.allocated("c", []string{"p"}, "a=t1")
	n.allocated("others", []string{"q"}, "a=t2")
	for _, tc := range []struct {
		name, want string
		pod        *v1.Pod
	}{
		{"no such claim", "fetch ResourceClaim ns/none", pod("p", "none", "")},
		{"another pod's", "pod p(p) is not allowed to use ResourceClaim others(uid-others)", pod("p", "others", "")},
		{"no driver", "DRA driver toys.example.com is not registered", pod("p", "c", "")},
	} {
		if err := n.Prepare(t.Context(), tc.pod); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
	d, _ := n.driverUp(false)
	d.Refuse(errors.New("it is broken"))
	if err := n.Prepare(t.Context(), pod("p", "c", "")); err == nil || !strings.Contains(err.Error(), "failed for ResourceClaim ns/c: it is broken") {
		t.Errorf("a driver that fails: got %v", err)
	}
	d.Refuse(nil)
	if err := n.Prepare(t.Context(), pod("p", "c", "")); err != nil {
		t.Errorf("a driver that got well: %v", err)
	}
}

func TestTwoPodsShareAClaim(t *testing.T) {
	n := newNode(t)
	d, _ := n.driverUp(false)
	n.allocated("c", []string{"p", "q"}, "a=t1")
	for _, name := range []string{"p", "q"} {
		if err := n.Prepare(t.Context(), pod(name, "c", "")); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		ends types.UID
		left int
	}{{"p", 1}, {"q", 0}} {
		if err := n.Unprepare(t.Context(), step.ends); err != nil || len(d.Prepared()) != step.left {
			t.Errorf("after %s ended: %v, prepared are %v, want %d", step.ends, err, d.Prepared(), step.left)
		}
	}
}

func TestRestart(t *testing.T) {
	n := newNode(t)
	d, _ := n.driverUp(false)
	n.allocated("c", []string{"p"}, "a=t1")
	p := pod("p", "c", "")
	if err := n.Prepare(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	n.stop()
	n.start(10 * time.Minute)
	if got, err := n.CDI(p, &p.Spec.Containers[0]); err != nil || len(got) != 1 {
		t.Errorf("after a restart: got %v, %v", got, err)
	}
	n.until("the driver", func() bool { _, err := n.driver(driverName); return err == nil })
	n.Abandon(t.Context(), func(types.UID) bool { return false })
	if left := d.Prepared(); len(left) > 0 {
		t.Errorf("of a pod that ended meanwhile there is still %v", left)
	}
	data, err := os.ReadFile(n.file())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(n.file(), []byte(strings.Replace(string(data), "DRACheckpoint", "DRACheckpoinT", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Restore(); err == nil {
		t.Error("a changed checkpoint was accepted")
	}
}

func TestHealth(t *testing.T) {
	n := newNode(t)
	d, _ := n.driverUp(false)
	n.allocated("c", []string{"p"}, "a=t1")
	p := pod("p", "c", "a")
	if err := n.Prepare(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	status := func(health v1.ResourceHealthStatus, message *string) {
		t.Helper()
		want := []v1.ResourceStatus{{Name: "claim:toy/a", Resources: []v1.ResourceHealth{{ResourceID: driverName + "/claim=uid-c-t1", Health: health, Message: message}}}}
		if diff := cmp.Diff(want, n.Status(p, &p.Spec.Containers[0])); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
	}
	status(v1.ResourceHealthStatusUnknown, nil)
	d.SetHealth("n1/t1", healthv1.HealthStatus_UNHEALTHY)
	select {
	case uid := <-n.notes:
		if uid != "p" {
			t.Errorf("told of pod %s", uid)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told of the device's health")
	}
	status(v1.ResourceHealthStatusUnhealthy, ptr.To("it is UNHEALTHY"))
}

// TestSlicesOfAGoneDriver end when its grace is over.
func TestSlicesOfAGoneDriver(t *testing.T) {
	n := newNode(t)
	n.stop()
	n.start(50 * time.Millisecond)
	d, stop := n.driverUp(false)
	for _, each := range []struct{ node, driver string }{{"n1", driverName}, {"n2", driverName}} {
		d.Name = each.driver
		if err := d.Publish(t.Context(), each.node, "t1"); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := os.Remove(filepath.Join(n.dir, "plugins_registry", driverName+"-reg.sock")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	n.until("the node's slice gone", func() bool {
		_, err := n.client.ResourceV1().ResourceSlices().Get(t.Context(), "n1-"+driverName, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	list, err := n.client.ResourceV1().ResourceSlices().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list.Items, func(s resourceapi.ResourceSlice) bool { return *s.Spec.NodeName == "n2" }) {
		t.Error("another node's slice was deleted")
	}
}
