package conformance

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// service leads port 80 to port 8080 of the pods labelled app=NAME.
func service(name string, kind corev1.ServiceType) *corev1.Service {
	return &corev1.Service{ObjectMeta: named(name), Spec: corev1.ServiceSpec{
		Type: kind, Selector: map[string]string{"app": name},
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: portNumber(8080), Protocol: corev1.ProtocolTCP}},
	}}
}

// external is a Service that is another name.
func external(name, target string) *corev1.Service {
	return &corev1.Service{ObjectMeta: named(name), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: target}}
}

func (s *space) service(svc *corev1.Service) *corev1.Service {
	s.t.Helper()
	out, err := s.client.CoreV1().Services(s.name).Create(s.ctx, svc, metav1.CreateOptions{})
	s.must(err)
	return out
}

func (s *space) updateService(name string, change func(*corev1.Service)) *corev1.Service {
	s.t.Helper()
	var out *corev1.Service
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		svc, err := s.client.CoreV1().Services(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(svc)
		out, err = s.client.CoreV1().Services(s.name).Update(s.ctx, svc, metav1.UpdateOptions{})
		return err
	}))
	return out
}

// backends makes a Deployment of serving pods and waits for them.
func (s *space) backends(app string, n int) []corev1.Pod {
	s.t.Helper()
	d := deployment(app, int32(n))
	d.Spec.Template.Spec.Containers[0].ReadinessProbe = readyProbe()
	s.deploy(d)
	return s.running(app, n)
}

// client makes the pod that the others are asked from.
func (s *space) clientPod() {
	s.t.Helper()
	s.ready(probePod("client", "sleep"))
}

// answers are the distinct answers of n requests of the client pod to a URL, or
// to an address over UDP.
func (s *space) answers(from, target string, n int) ([]string, error) {
	command := []string{"/probe", "get", target, fmt.Sprint(n)}
	if !strings.HasPrefix(target, "http") {
		command = []string{"/probe", "packet", target, "hostname", fmt.Sprint(n)}
	}
	out, err := s.exec(from, "main", command...)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	names := strings.Fields(out)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// reaches waits until a target answers a pod, with each of the names when given.
func (s *space) reaches(from, target string, names ...string) {
	s.t.Helper()
	slices.Sort(names)
	s.eventually(60*time.Second, from+" reaches "+target, func() error {
		got, err := s.answers(from, target, max(1, len(names)*10))
		if err == nil && len(names) > 0 && !slices.Equal(got, names) {
			err = fmt.Errorf("%v answered, want %v", got, names)
		}
		return err
	})
}

// cannotReach waits until a target no longer answers a pod.
func (s *space) cannotReach(from, target string) {
	s.t.Helper()
	s.eventually(60*time.Second, from+" cannot reach "+target, func() error {
		if got, err := s.answers(from, target, 1); err == nil {
			return fmt.Errorf("%v answers", got)
		}
		return nil
	})
}

// reachesService asks a Service by its name, its cluster IP and, where it has
// one, its node port on every node.
func (s *space) reachesService(from string, svc *corev1.Service, names ...string) {
	s.t.Helper()
	for _, url := range s.urls(svc) {
		s.reaches(from, url, names...)
	}
}

func (s *space) urls(svc *corev1.Service) []string {
	s.t.Helper()
	p := svc.Spec.Ports[0]
	urls := []string{fmt.Sprintf("http://%s:%d/hostname", svc.Name, p.Port), fmt.Sprintf("http://%s:%d/hostname", svc.Spec.ClusterIP, p.Port)}
	if p.NodePort != 0 {
		for _, ip := range s.nodeIPs() {
			urls = append(urls, fmt.Sprintf("http://%s:%d/hostname", ip, p.NodePort))
		}
	}
	return urls
}

func (s *space) nodeIPs() []string {
	s.t.Helper()
	var out []string
	for _, n := range s.nodes() {
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
				out = append(out, a.Address)
			}
		}
	}
	if len(out) == 0 {
		s.t.Fatal("no node has an address")
	}
	return out
}

func podNames(pods []corev1.Pod) []string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Name)
	}
	slices.Sort(out)
	return out
}

// slices are a Service's EndpointSlices.
func (s *space) slices(service string) []discoveryv1.EndpointSlice {
	s.t.Helper()
	list, err := s.client.DiscoveryV1().EndpointSlices(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	s.must(err)
	return list.Items
}

// endpointsAre waits until the Endpoints and the EndpointSlices of a Service list
// these addresses with port, in the form ADDRESS:PORT, and no others.
func (s *space) endpointsAre(service string, want ...string) {
	s.t.Helper()
	slices.Sort(want)
	s.eventually(30*time.Second, "the endpoints of "+service, func() error {
		ep, err := s.client.CoreV1().Endpoints(s.name).Get(s.ctx, service, metav1.GetOptions{}) //nolint:staticcheck // the row is about it
		if err != nil {
			return err
		}
		var old, got []string
		for _, subset := range ep.Subsets {
			for _, a := range subset.Addresses {
				for _, p := range subset.Ports {
					old = append(old, net.JoinHostPort(a.IP, fmt.Sprint(p.Port)))
				}
			}
		}
		for _, slice := range s.slices(service) {
			for _, e := range slice.Endpoints {
				for _, p := range slice.Ports {
					if e.Conditions.Ready == nil || *e.Conditions.Ready {
						got = append(got, net.JoinHostPort(e.Addresses[0], fmt.Sprint(*p.Port)))
					}
				}
			}
		}
		slices.Sort(old)
		slices.Sort(got)
		if !slices.Equal(old, want) || !slices.Equal(got, want) {
			return fmt.Errorf("Endpoints %v and EndpointSlices %v, want %v", old, got, want)
		}
		return nil
	})
}
