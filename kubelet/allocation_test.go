package kubelet

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"skiff/kubelet/critest"
	"skiff/testdata/deviceplugin"
)

const toy = "example.com/toy"

func withToys(n int64) func(*v1.Pod) {
	return func(p *v1.Pod) {
		list := v1.ResourceList{toy: *apiresource.NewQuantity(n, apiresource.DecimalSI)}
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Limits: list, Requests: list}
	}
}

// devicesOf are what the status says of a pod's devices.
func devicesOf(p *v1.Pod, health v1.ResourceHealthStatus) []string {
	var out []string
	for _, c := range p.Status.ContainerStatuses {
		for _, r := range c.AllocatedResourcesStatus {
			for _, d := range r.Resources {
				if r.Name == toy && d.Health == health {
					out = append(out, string(d.ResourceID))
				}
			}
		}
	}
	return out
}

func TestDevices(t *testing.T) {
	h := start(t, critest.New("img:1"))
	p := &deviceplugin.Plugin{Resource: toy, Dir: filepath.Join(h.root, "kubelet", "device-plugins"), CDI: true}
	p.Set(deviceplugin.Device("t1", pluginapi.Healthy))
	stop, err := p.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	h.waitNode("the resource", func(n *v1.Node) bool {
		q := n.Status.Allocatable[toy]
		return q.Value() == 1
	})
	h.create(newPod("one", withToys(1)))
	one := h.wait("one", "running with its device", func(p *v1.Pod) bool { return ready(p) && len(devicesOf(p, v1.ResourceHealthStatusHealthy)) == 1 })
	if got := devicesOf(one, v1.ResourceHealthStatusHealthy); !slices.Equal(got, []string{"t1"}) {
		t.Errorf("devices %v, want t1", got)
	}
	config := h.runtime.ContainerNamed("c").Config
	if len(config.CDIDevices) != 1 || config.CDIDevices[0].Name != toy+"=t1" || len(config.Devices) != 1 || config.Devices[0].ContainerPath != "/dev/toy" {
		t.Errorf("the container has devices %v and CDI devices %v", config.Devices, config.CDIDevices)
	}
	if !slices.ContainsFunc(config.Envs, func(e *runtimeapi.KeyValue) bool { return e.Key == "TOYS" && string(e.Value) == "t1" }) {
		t.Errorf("the container's variables %v lack TOYS=t1", config.Envs)
	}

	h.create(newPod("two", withToys(1)))
	two := h.wait("two", "refused", func(p *v1.Pod) bool { return p != nil && p.Status.Phase == v1.PodFailed })
	want := "Pod was rejected: Allocate failed due to requested number of devices unavailable for example.com/toy. Requested: 1, Available: 0, which is unexpected"
	if two.Status.Reason != "UnexpectedAdmissionError" || two.Status.Message != want {
		t.Errorf("refused: %s: %s\nwant %s", two.Status.Reason, two.Status.Message, want)
	}
	h.create(newPod("other", func(p *v1.Pod) {
		withToys(1)(p)
		list := v1.ResourceList{"example.com/of-the-cluster": apiresource.MustParse("1")}
		p.Spec.Containers[0].Resources = v1.ResourceRequirements{Limits: list, Requests: list}
	}))
	h.wait("other", "running: no node has such a resource", ready)

	p.Set(deviceplugin.Device("t1", pluginapi.Unhealthy))
	h.wait("one", "its device unhealthy", func(p *v1.Pod) bool { return len(devicesOf(p, v1.ResourceHealthStatusUnhealthy)) == 1 })
	h.waitNode("nothing allocatable", func(n *v1.Node) bool {
		all, healthy := n.Status.Capacity[toy], n.Status.Allocatable[toy]
		return all.Value() == 1 && healthy.IsZero()
	})
	p.Set(deviceplugin.Device("t1", pluginapi.Healthy))

	h.delete("one")
	h.wait("one", "gone", func(p *v1.Pod) bool { return p == nil })
	h.create(newPod("three", withToys(1)))
	h.wait("three", "running with the device of the first", func(p *v1.Pod) bool {
		return ready(p) && strings.Join(devicesOf(p, v1.ResourceHealthStatusHealthy), " ") == "t1"
	})
}

// waitNode follows the node's object until ok accepts it.
func (h *harness) waitNode(what string, ok func(*v1.Node) bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w, err := h.client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	defer w.Stop()
	last, err := h.client.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	for !ok(last) {
		select {
		case e := <-w.ResultChan():
			if node, is := e.Object.(*v1.Node); is {
				last = node
			}
		case <-ctx.Done():
			h.t.Fatalf("node: waited for %s; last status %+v", what, last.Status)
		}
	}
}

// delete asks for the pod's end, as a client does: the fake API server has no
// graceful deletion.
func (h *harness) delete(name string) {
	h.t.Helper()
	ctx := context.Background()
	p, err := h.client.CoreV1().Pods("ns").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	now := metav1.Now()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, p.Spec.TerminationGracePeriodSeconds
	if _, err := h.client.CoreV1().Pods("ns").Update(ctx, p, metav1.UpdateOptions{}); err != nil {
		h.t.Fatal(err)
	}
}
