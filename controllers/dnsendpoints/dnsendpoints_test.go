package dnsendpoints

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/controllers/loop"
)

func service(ips ...string) *v1.Service {
	return &v1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: Name, UID: "s", Labels: map[string]string{"k8s-app": "kube-dns"}},
		Spec:       v1.ServiceSpec{ClusterIP: ips[0], ClusterIPs: ips},
	}
}

func node(name string, up bool, ips ...string) *v1.Node {
	status := v1.ConditionFalse
	if up {
		status = v1.ConditionTrue
	}
	n := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1.LabelTopologyZone: "z-" + name}},
		Status:     v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: status}}},
	}
	n.Status.Addresses = append(n.Status.Addresses, v1.NodeAddress{Type: v1.NodeHostName, Address: name})
	for _, ip := range ips {
		n.Status.Addresses = append(n.Status.Addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip})
	}
	return n
}

func describe(list []*discovery.EndpointSlice) []string {
	var out []string
	for _, s := range list {
		text := s.Name + " " + string(s.AddressType)
		for _, p := range s.Ports {
			text += fmt.Sprintf(" %s/%d/%s", *p.Name, *p.Port, *p.Protocol)
		}
		for _, e := range s.Endpoints {
			text += fmt.Sprintf(" %s=%s@%s:%v", *e.NodeName, e.Addresses[0], ptr.Deref(e.Zone, "-"), *e.Conditions.Ready)
		}
		out = append(out, text)
	}
	return out
}

func TestMakePlan(t *testing.T) {
	const ports = " dns/10053/UDP dns-tcp/10053/TCP metrics/9153/TCP"
	p := Ports{Query: 10053, Metrics: 9153}
	a, b := node("a", true, "10.0.0.1"), node("b", false, "10.0.0.2")
	leaving := node("c", true, "10.0.0.3")
	leaving.DeletionTimestamp = &metav1.Time{}
	first := MakePlan(service("10.96.0.10"), []*v1.Node{b, a, leaving}, nil, p).Create
	for i := range first {
		first[i].Name = fmt.Sprint("slice", i)
	}
	for name, tc := range map[string]struct {
		service                *v1.Service
		nodes                  []*v1.Node
		existing               []*discovery.EndpointSlice
		create, update, delete []string
	}{
		"none yet": {
			service: service("10.96.0.10"), nodes: []*v1.Node{b, a, leaving},
			create: []string{" IPv4" + ports + " a=10.0.0.1@z-a:true b=10.0.0.2@z-b:false"},
		},
		"unchanged": {service: service("10.96.0.10"), nodes: []*v1.Node{a, b}, existing: first},
		"a node became ready": {
			service: service("10.96.0.10"), nodes: []*v1.Node{a, node("b", true, "10.0.0.2")}, existing: first,
			update: []string{"slice0 IPv4" + ports + " a=10.0.0.1@z-a:true b=10.0.0.2@z-b:true"},
		},
		"a node left and one came": {
			service: service("10.96.0.10"), nodes: []*v1.Node{b, node("d", true, "10.0.0.4")}, existing: first,
			update: []string{"slice0 IPv4" + ports + " b=10.0.0.2@z-b:false d=10.0.0.4@z-d:true"},
		},
		"no nodes":     {service: service("10.96.0.10"), existing: first, delete: describe(first)},
		"no service":   {nodes: []*v1.Node{a}, existing: first, delete: describe(first)},
		"other family": {service: service("fd00::a"), nodes: []*v1.Node{a}, existing: first, delete: describe(first)},
		"dual stack": {
			service: service("fd00::a", "10.96.0.10"), nodes: []*v1.Node{node("a", true, "10.0.0.1", "fd01::1")},
			create: []string{" IPv6" + ports + " a=fd01::1@z-a:true", " IPv4" + ports + " a=10.0.0.1@z-a:true"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan := MakePlan(tc.service, tc.nodes, tc.existing, p)
			if diff := cmp.Diff([][]string{tc.create, tc.update, tc.delete}, [][]string{describe(plan.Create), describe(plan.Update), describe(plan.Delete)}); diff != "" {
				t.Errorf("create, update, delete (-want +got):\n%s", diff)
			}
		})
	}
}

func TestManyNodesFillSlices(t *testing.T) {
	var nodes []*v1.Node
	for i := range 150 {
		nodes = append(nodes, node(fmt.Sprintf("n%03d", i), true, fmt.Sprintf("10.0.1.%d", i)))
	}
	plan := MakePlan(service("10.96.0.10"), nodes, nil, Ports{1, 2})
	if len(plan.Create) != 2 || len(plan.Create[0].Endpoints) != 100 || len(plan.Create[1].Endpoints) != 50 {
		t.Fatalf("%d slices for 150 nodes", len(plan.Create))
	}
	for i, s := range plan.Create {
		s.Name = fmt.Sprint("slice", i)
	}
	// A new first node goes to the slice with room and moves nobody.
	again := MakePlan(service("10.96.0.10"), append(nodes, node("a", true, "10.0.2.1")), plan.Create, Ports{1, 2})
	if len(again.Create)+len(again.Delete) != 0 || len(again.Update) != 1 || again.Update[0].Name != "slice1" {
		t.Errorf("after one more node: create %d, update %v, delete %d", len(again.Create), describe(again.Update), len(again.Delete))
	}
}

func TestSync(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := fake.NewClientset(service("10.96.0.10"), node("a", true, "10.0.0.1"), node("b", false, "10.0.0.2"))
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := New(Config{Parts: loop.Parts{Client: client, Informers: factory}})
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	if err := c.sync(ctx, Namespace+"/"+Name); err != nil {
		t.Fatal(err)
	}
	list, err := client.DiscoveryV1().EndpointSlices(Namespace).List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || len(list.Items[0].Endpoints) != 2 {
		t.Fatalf("slices: %v, %v", list, err)
	}
	if refs := list.Items[0].OwnerReferences; len(refs) != 1 || refs[0].UID != "s" {
		t.Errorf("owner: %v", refs)
	}
	e, err := client.CoreV1().Endpoints(Namespace).Get(ctx, Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Subsets) != 1 || len(e.Subsets[0].Addresses) != 1 || len(e.Subsets[0].NotReadyAddresses) != 1 {
		t.Errorf("subsets: %v", e.Subsets)
	}
	if e.Labels[discovery.LabelSkipMirror] != "true" {
		t.Errorf("the endpoints would be mirrored: labels %v", e.Labels)
	}
	if err := c.writeEndpoints(ctx, nil, e); err != nil {
		t.Fatal(err)
	}
	if left, err := client.CoreV1().Endpoints(Namespace).List(ctx, metav1.ListOptions{}); err != nil || len(left.Items) != 0 {
		t.Errorf("own endpoints stay without a service: %v, %v", left, err)
	}
	e.Labels = nil
	if err := c.writeEndpoints(ctx, nil, e); err != nil {
		t.Errorf("somebody's endpoints: %v", err)
	}
}
