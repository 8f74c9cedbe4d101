package cloud

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	fakecloud "k8s.io/cloud-provider/fake"

	"skiff/cloud/local"
)

// run runs a manager until the test ends.
func run(t *testing.T, cfg Config) {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// until looks again until the condition holds.
func until(t *testing.T, what string, holds func() (string, bool)) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for {
		got, ok := holds()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: %s", what, got)
		}
	}
}

func untilNode(t *testing.T, client *fake.Clientset, name, what string, holds func(*v1.Node) bool) {
	t.Helper()
	until(t, what, func() (string, bool) {
		n, err := client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		return n.String(), holds(n)
	})
}

func untilIngress(t *testing.T, client *fake.Clientset, name, want string) {
	t.Helper()
	until(t, "addresses of "+name+", want "+want, func() (string, bool) {
		s, err := client.CoreV1().Services("ns").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		var ips []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			ips = append(ips, in.IP)
		}
		got := strings.Join(ips, " ")
		return got, got == want
	})
}

func waiting(name, ip string) *v1.Node {
	return &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "n-1", Annotations: map[string]string{"alpha.kubernetes.io/provided-node-ip": ip}},
		Spec:       v1.NodeSpec{Taints: []v1.Taint{{Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: v1.TaintEffectNoSchedule}}},
		Status:     v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue}}},
	}
}

func ready(name, ip string) *v1.Node {
	n := waiting(name, ip)
	n.Spec.Taints, n.Spec.ProviderID = nil, "local://"+name
	n.Status.Addresses = []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: ip}}
	return n
}

func balanced(name string) *v1.Service {
	return &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "s-1"},
		Spec: v1.ServiceSpec{
			Type: v1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", IPFamilies: []v1.IPFamily{v1.IPv4Protocol},
			Ports: []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP}},
		},
	}
}

func TestNodeIsInitialised(t *testing.T) {
	client := fake.NewClientset(waiting("a", "10.0.0.1"))
	run(t, Config{Client: client, Local: local.Config{Zone: "z"}})
	untilNode(t, client, "a", "a node without the taint", func(n *v1.Node) bool { return len(n.Spec.Taints) == 0 })
	untilNode(t, client, "a", "its addresses", func(n *v1.Node) bool {
		return cmp.Diff([]v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "10.0.0.1"}, {Type: v1.NodeHostName, Address: "a"}}, n.Status.Addresses) == ""
	})
	untilNode(t, client, "a", "its zone and ID", func(n *v1.Node) bool {
		return n.Labels[v1.LabelTopologyZone] == "z" && n.Spec.ProviderID == "local://a"
	})
}

func TestLoadBalancerOnNodes(t *testing.T) {
	if raceDetector {
		t.Skip("the library's service controller does not pass the race detector")
	}
	client := fake.NewClientset(ready("a", "10.0.0.1"), balanced("web"))
	run(t, Config{Client: client})
	untilIngress(t, client, "web", "10.0.0.1")
	ctx := t.Context()
	if _, err := client.CoreV1().Nodes().Create(ctx, ready("b", "10.0.0.2"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	untilIngress(t, client, "web", "10.0.0.1 10.0.0.2")
	moved := ready("b", "10.0.0.3")
	if _, err := client.CoreV1().Nodes().UpdateStatus(ctx, moved, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	untilIngress(t, client, "web", "10.0.0.1 10.0.0.3")
	s, err := client.CoreV1().Services("ns").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(s.Finalizers, []string{"service.kubernetes.io/load-balancer-cleanup"}) {
		t.Errorf("finalizers: %v", s.Finalizers)
	}
	s.Spec.Type = v1.ServiceTypeClusterIP
	if _, err := client.CoreV1().Services("ns").Update(ctx, s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	untilIngress(t, client, "web", "")
	until(t, "a service without the finalizer", func() (string, bool) {
		s, err := client.CoreV1().Services("ns").Get(ctx, "web", metav1.GetOptions{})
		return "", err == nil && len(s.Finalizers) == 0
	})
}

func TestLoadBalancersShareAPool(t *testing.T) {
	if raceDetector {
		t.Skip("the library's service controller does not pass the race detector")
	}
	r, err := local.ParseRange("192.0.2.0/29")
	if err != nil {
		t.Fatal(err)
	}
	a, b := balanced("a"), balanced("b")
	a.UID, b.UID = "s-a", "s-b"
	client := fake.NewClientset(ready("n", "10.0.0.1"), a, b)
	run(t, Config{Client: client, Local: local.Config{Pool: []local.Range{r}}, ConcurrentServiceSyncs: 2})
	got := map[string]bool{}
	for _, name := range []string{"a", "b"} {
		until(t, "an address of "+name, func() (string, bool) {
			s, err := client.CoreV1().Services("ns").Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || len(s.Status.LoadBalancer.Ingress) != 1 {
				return "", false
			}
			got[s.Status.LoadBalancer.Ingress[0].IP] = true
			return "", true
		})
	}
	if diff := cmp.Diff(map[string]bool{"192.0.2.1": true, "192.0.2.2": true}, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestOtherProvider(t *testing.T) {
	gone := ready("gone", "10.0.0.1")
	gone.Status.Conditions[0].Status = v1.ConditionFalse
	client := fake.NewClientset(gone)
	provider := &fakecloud.Cloud{EnableInstancesV2: true, ExistsByProviderID: false}
	run(t, Config{Client: client, Provider: provider, Controllers: []string{"cloud-node-lifecycle"}, NodeMonitorPeriod: 10 * time.Millisecond})
	until(t, "a node whose machine is gone is deleted", func() (string, bool) {
		_, err := client.CoreV1().Nodes().Get(t.Context(), "gone", metav1.GetOptions{})
		return "", apierrors.IsNotFound(err)
	})
}

func TestConfig(t *testing.T) {
	client := fake.NewClientset()
	for name, tc := range map[string]struct {
		config Config
		want   string
	}{
		"no client":  {Config{}, "Client is nil"},
		"provider":   {Config{Client: client, ProviderName: "x"}, `provider "x" is not known`},
		"controller": {Config{Client: client, Controllers: []string{"*", "-x"}}, `controller "x" is not known`},
		"pool":       {Config{Client: client, Local: local.Config{Pool: []local.Range{{}}}}, "address range"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(tc.config); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	m, err := New(Config{Client: client, Controllers: []string{"*", "-service"}})
	if err != nil {
		t.Fatal(err)
	}
	if m.chosen("service-lb-controller") || !m.chosen("cloud-node-controller") {
		t.Error("a controller that was taken out runs, or another does not")
	}
}
