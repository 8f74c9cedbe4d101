package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

// Conformance: [sig-network] API Server should have Endpoints and EndpointSlices pointing to API Server
// Conformance: [sig-network] API Server should provide secure master service
// Conformance: [sig-network] Services should find a service from listing all namespaces
func TestNetAPIServer(t *testing.T) {
	s := parallel(t)
	all, err := s.client.CoreV1().Services("").List(s.ctx, metav1.ListOptions{})
	s.must(err)
	if !slices.ContainsFunc(all.Items, func(svc corev1.Service) bool { return svc.Name == "kubernetes" && svc.Namespace == "default" }) {
		t.Error("the list of all namespaces lacks default/kubernetes")
	}
	svc, err := s.client.CoreV1().Services("default").Get(s.ctx, "kubernetes", metav1.GetOptions{})
	s.must(err)
	if p := svc.Spec.Ports; len(p) != 1 || p[0].Port != 443 || p[0].Name != "https" || p[0].TargetPort.IntValue() == 0 || svc.Spec.SessionAffinity != corev1.ServiceAffinityNone {
		t.Errorf("the service is %+v", svc.Spec)
	}
	ep, err := s.client.CoreV1().Endpoints("default").Get(s.ctx, "kubernetes", metav1.GetOptions{}) //nolint:staticcheck // the row is about it
	s.must(err)
	list, err := s.client.DiscoveryV1().EndpointSlices("default").List(s.ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kubernetes"})
	s.must(err)
	if len(ep.Subsets) != 1 || len(ep.Subsets[0].Addresses) == 0 || len(list.Items) != 1 {
		t.Fatalf("the Endpoints are %+v and there are %d EndpointSlices", ep.Subsets, len(list.Items))
	}
	slice := list.Items[0]
	if slice.Ports[0].Port == nil || *slice.Ports[0].Port != ep.Subsets[0].Ports[0].Port || *slice.Ports[0].Name != "https" || slice.AddressType != discoveryv1.AddressTypeIPv4 {
		t.Errorf("the slice has the ports %+v", slice.Ports)
	}
	for i, a := range ep.Subsets[0].Addresses {
		if got := slice.Endpoints[i]; got.Addresses[0] != a.IP || !ptr.Deref(got.Conditions.Ready, false) {
			t.Errorf("the slice has %+v, want %s ready", got, a.IP)
		}
	}
	s.clientPod()
	if out := s.mustExec("client", "main", "/probe", "api", "/version"); !strings.Contains(out, "gitVersion") {
		t.Errorf("the API server tells a pod %q", out)
	}
}

// Conformance: [sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service
// Conformance: [sig-network] EndpointsController should create Endpoints for Pods matching a Service
func TestNetEndpointSlices(t *testing.T) {
	s := parallel(t)
	var pods []*corev1.Pod
	for i, port := range []int32{3000, 3001} {
		p := probePod(fmt.Sprintf("pod%d", i+1), "serve", "--http", fmt.Sprintf(":%d", port))
		p.Labels = map[string]string{"app": "web", "own": p.Name}
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "example-name", ContainerPort: port}}
		pods = append(pods, s.ready(p))
	}
	one := service("one", corev1.ServiceTypeClusterIP)
	one.Spec.Selector = map[string]string{"own": "pod1"}
	one.Spec.Ports = []corev1.ServicePort{{Name: "example", Port: 80, TargetPort: portNumber(3000)}}
	two := service("two", corev1.ServiceTypeClusterIP)
	two.Spec.Selector = map[string]string{"app": "web"}
	two.Spec.Ports = []corev1.ServicePort{
		{Name: "example", Port: 80, TargetPort: portName("example-name")}, {Name: "other", Port: 81, TargetPort: portNumber(3001)},
	}
	three := service("three", corev1.ServiceTypeClusterIP)
	three.Spec.Selector = map[string]string{"app": "web"}
	three.Spec.ClusterIP = corev1.ClusterIPNone
	three.Spec.Ports = nil
	for _, svc := range []*corev1.Service{one, two, three} {
		s.service(svc)
	}
	first, second := pods[0].Status.PodIP, pods[1].Status.PodIP
	s.endpointsAre("one", first+":3000")
	s.endpointsAre("two", first+":3000", second+":3001", first+":3001", second+":3001")
	for _, slice := range s.slices("one") {
		e := slice.Endpoints[0]
		if ref := e.TargetRef; ref == nil || ref.Kind != "Pod" || ref.Name != "pod1" || ref.Namespace != s.name || ref.UID != pods[0].UID {
			t.Errorf("the endpoint refers to %+v", ref)
		}
		c := e.Conditions
		if ptr.Deref(e.NodeName, "") != pods[0].Spec.NodeName || !ptr.Deref(c.Ready, false) || !ptr.Deref(c.Serving, false) || ptr.Deref(c.Terminating, true) {
			t.Errorf("the endpoint is %+v", e)
		}
		if slice.Labels[discoveryv1.LabelManagedBy] != "endpointslice-controller.k8s.io" || owner(&slice).Name != "one" || owner(&slice).Kind != "Service" {
			t.Errorf("the slice has labels %v and owner %+v", slice.Labels, owner(&slice))
		}
	}
	s.eventually(20*time.Second, "the headless service's endpoints", func() error {
		var got []string
		for _, slice := range s.slices("three") {
			for _, e := range slice.Endpoints {
				got = append(got, e.Addresses...)
			}
			if _, ok := slice.Labels[corev1.IsHeadlessService]; !ok {
				return fmt.Errorf("the slice is not labelled headless: %v", slice.Labels)
			}
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values([]string{first, second})); !slices.Equal(got, want) {
			return fmt.Errorf("%v, want %v", got, want)
		}
		return nil
	})
}

// Conformance: [sig-network] EndpointSlice should create and delete EndpointSlices for a Service with a selector that matches no pods
// Conformance: [sig-network] EndpointsController should create and delete Endpoints for a Service with a selector that matches no pods
func TestNetEndpointsOfNoPods(t *testing.T) {
	s := parallel(t)
	s.service(service("web", corev1.ServiceTypeClusterIP))
	s.endpointsAre("web")
	s.eventually(20*time.Second, "one empty slice", func() error {
		if n := len(s.slices("web")); n != 1 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	s.must(s.client.CoreV1().Services(s.name).Delete(s.ctx, "web", metav1.DeleteOptions{}))
	s.gone("the Endpoints", func() error {
		_, err := s.client.CoreV1().Endpoints(s.name).Get(s.ctx, "web", metav1.GetOptions{}) //nolint:staticcheck // the row is about it
		return err
	})
	s.eventually(60*time.Second, "no slices", func() error {
		if n := len(s.slices("web")); n != 0 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
}

// Conformance: [sig-network] EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices
// Conformance: [sig-network] EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices
func TestNetManualSlices(t *testing.T) {
	for _, pods := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d addresses", pods), func(t *testing.T) {
			s := parallel(t)
			s.clientPod()
			svc := service("web", corev1.ServiceTypeClusterIP)
			svc.Spec.Selector = nil
			svc.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 80, TargetPort: portNumber(8080)}, {Name: "b", Port: 81, TargetPort: portNumber(8081)}}
			svc = s.service(svc)
			var servers []*corev1.Pod
			for i := range pods {
				p := probePod(fmt.Sprintf("pod-%d", i))
				second := *p.Spec.Containers[0].DeepCopy()
				second.Name, second.Args = "second", []string{"serve", "--http", ":8081", "--udp", "", "--tcp", ""}
				p.Spec.Containers[0].Args = []string{"serve", "--http", ":8080", "--udp", "", "--tcp", ""}
				p.Spec.Containers = append(p.Spec.Containers, second)
				servers = append(servers, s.ready(p))
			}
			for i, port := range []string{"a", "b"} {
				at := servers[i%pods]
				_, err := s.client.DiscoveryV1().EndpointSlices(s.name).Create(s.ctx, &discoveryv1.EndpointSlice{
					ObjectMeta:  metav1.ObjectMeta{Name: "web-" + port, Labels: map[string]string{discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: "test"}},
					AddressType: discoveryv1.AddressTypeIPv4,
					Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(port), Port: ptr.To(int32(8080 + i))}},
					Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{at.Status.PodIP}}},
				}, metav1.CreateOptions{})
				s.must(err)
			}
			for i := range 2 {
				s.reaches("client", fmt.Sprintf("http://%s:%d/hostname", svc.Spec.ClusterIP, 80+i), servers[i%pods].Name)
			}
		})
	}
}

// Conformance: [sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete
func TestNetMirroring(t *testing.T) {
	s := parallel(t)
	svc := service("web", corev1.ServiceTypeClusterIP)
	svc.Spec.Selector = nil
	s.service(svc)
	endpoints := s.client.CoreV1().Endpoints(s.name)
	mirrored := func(want ...string) {
		t.Helper()
		s.eventually(30*time.Second, fmt.Sprintf("slices of %v", want), func() error {
			var got []string
			for _, slice := range s.slices("web") {
				if slice.Labels[discoveryv1.LabelManagedBy] != "endpointslicemirroring-controller.k8s.io" {
					return fmt.Errorf("the slice is managed by %q", slice.Labels[discoveryv1.LabelManagedBy])
				}
				for _, e := range slice.Endpoints {
					got = append(got, fmt.Sprintf("%s:%d", e.Addresses[0], *slice.Ports[0].Port))
				}
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("%v", got)
			}
			return nil
		})
	}
	ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Subsets: []corev1.EndpointSubset{{ //nolint:staticcheck // the row is about it
		Addresses: []corev1.EndpointAddress{{IP: "10.1.2.3"}}, Ports: []corev1.EndpointPort{{Name: "http", Port: 80}}, //nolint:staticcheck // and it
	}}}
	ep, err := endpoints.Create(s.ctx, ep, metav1.CreateOptions{})
	s.must(err)
	mirrored("10.1.2.3:80")
	ep.Subsets[0].Addresses[0].IP = "10.2.3.4"
	_, err = endpoints.Update(s.ctx, ep, metav1.UpdateOptions{})
	s.must(err)
	mirrored("10.2.3.4:80")
	s.must(endpoints.Delete(s.ctx, "web", metav1.DeleteOptions{}))
	mirrored()
}

// Conformance: [sig-network] Endpoints should test the lifecycle of an Endpoint
func TestNetEndpointsLifecycle(t *testing.T) {
	s := parallel(t)
	endpoints := s.client.CoreV1().Endpoints(s.name)
	label := "test=" + s.name
	w, err := s.client.CoreV1().Endpoints("").Watch(s.ctx, metav1.ListOptions{LabelSelector: label})
	s.must(err)
	defer w.Stop()
	seen := func(kind watch.EventType, is func(*corev1.Endpoints) bool) { //nolint:staticcheck // the row is about it
		t.Helper()
		s.seen(w, "the Endpoints "+string(kind), func(got watch.EventType, obj runtime.Object) bool { return got == kind && is(obj.(*corev1.Endpoints)) }) //nolint:staticcheck // and it
	}
	_, err = endpoints.Create(s.ctx, &corev1.Endpoints{ //nolint:staticcheck // the row is about it
		ObjectMeta: metav1.ObjectMeta{Name: "ep", Labels: map[string]string{"test": s.name}},
		Subsets: []corev1.EndpointSubset{{ //nolint:staticcheck // and it
			Addresses: []corev1.EndpointAddress{{IP: "10.0.0.24"}}, Ports: []corev1.EndpointPort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}, //nolint:staticcheck // and it
		}},
	}, metav1.CreateOptions{})
	s.must(err)
	seen(watch.Added, func(*corev1.Endpoints) bool { return true }) //nolint:staticcheck // and it
	list, err := s.client.CoreV1().Endpoints("").List(s.ctx, metav1.ListOptions{LabelSelector: label})
	s.must(err)
	if len(list.Items) != 1 {
		t.Fatalf("the list of all namespaces has %d objects, want 1", len(list.Items))
	}
	found := &list.Items[0]
	found.Labels["updated"] = "true"
	_, err = endpoints.Update(s.ctx, found, metav1.UpdateOptions{})
	s.must(err)
	seen(watch.Modified, func(e *corev1.Endpoints) bool { return e.Labels["updated"] == "true" }) //nolint:staticcheck // and it
	_, err = endpoints.Patch(s.ctx, "ep", types.StrategicMergePatchType, s.json(map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"patched": "true"}},
		"subsets":  []any{map[string]any{"addresses": []any{map[string]any{"ip": "10.0.0.25"}}, "ports": []any{map[string]any{"name": "http-test", "port": 8080}}}},
	}), metav1.PatchOptions{})
	s.must(err)
	seen(watch.Modified, func(e *corev1.Endpoints) bool { return e.Labels["patched"] == "true" }) //nolint:staticcheck // and it
	got, err := endpoints.Get(s.ctx, "ep", metav1.GetOptions{})
	s.must(err)
	if set := got.Subsets; len(set) != 1 || set[0].Addresses[0].IP != "10.0.0.25" || set[0].Ports[0].Name != "http-test" || set[0].Ports[0].Port != 8080 {
		t.Errorf("the patched subsets are %+v", set)
	}
	s.must(endpoints.DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: label}))
	seen(watch.Deleted, func(*corev1.Endpoints) bool { return true }) //nolint:staticcheck // and it
	s.gone("the Endpoints", func() error {
		_, err := endpoints.Get(s.ctx, "ep", metav1.GetOptions{})
		return err
	})
}

// Conformance: [sig-network] Service endpoints latency should not be very high
func TestNetEndpointLatency(t *testing.T) {
	s := parallel(t)
	s.ready(probePod("web"))
	w, err := s.client.CoreV1().Endpoints(s.name).Watch(s.ctx, metav1.ListOptions{})
	s.must(err)
	defer w.Stop()
	const n = 200
	var mu sync.Mutex
	start := map[string]time.Time{}
	made := make(chan error, 1)
	go func() {
		for i := range n {
			svc := service(fmt.Sprintf("latency-%d", i), corev1.ServiceTypeClusterIP)
			svc.Spec.Selector = map[string]string{"app": "web"}
			mu.Lock()
			start[svc.Name] = time.Now()
			mu.Unlock()
			if _, err := s.client.CoreV1().Services(s.name).Create(s.ctx, svc, metav1.CreateOptions{}); err != nil {
				made <- err
				return
			}
		}
		made <- nil
	}()
	var took []time.Duration
	s.seen(w, "the endpoints of every service", func(kind watch.EventType, obj runtime.Object) bool {
		ep := obj.(*corev1.Endpoints) //nolint:staticcheck // the row is about it
		mu.Lock()
		defer mu.Unlock()
		at, ok := start[ep.Name]
		if ok && len(ep.Subsets) > 0 && len(ep.Subsets[0].Addresses) > 0 {
			took = append(took, time.Since(at))
			delete(start, ep.Name)
		}
		return len(took) == n
	})
	s.must(<-made)
	slices.Sort(took)
	t.Logf("from a service's creation to its endpoints: p50 %v, p90 %v, p99 %v", took[n/2], took[n*9/10], took[n*99/100])
}
