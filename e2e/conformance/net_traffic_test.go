package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// addressOf is a node's address.
func addressOf(n corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

// clients makes a pod on each node and returns their names, in the nodes' order.
func (s *space) clients() []string {
	s.t.Helper()
	var out []string
	for i, n := range s.nodes() {
		out = append(out, s.ready(onNode(probePod(fmt.Sprintf("client-%d", i), "sleep"), n.Name)).Name)
	}
	if len(out) < 2 {
		s.t.Skip("want two nodes")
	}
	return out
}

// answerFrom asks a URL from the machine itself, on a connection of its own.
func answerFrom(url string) (int, string, error) {
	c := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(b)), err
}

func TestNetExternalTrafficLocal(t *testing.T) {
	s := parallel(t)
	nodes := s.nodes()
	s.clients()
	web := s.ready(onNode(probePod("web"), nodes[1].Name))
	svc := service("web", corev1.ServiceTypeLoadBalancer)
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	svc.Spec.LoadBalancerClass = ptr.To("example.com/nobody")
	svc = s.service(svc)
	port, check := svc.Spec.Ports[0].NodePort, svc.Spec.HealthCheckNodePort
	if check == 0 {
		t.Fatal("the service has no healthCheckNodePort")
	}
	at := func(n corev1.Node, port int32, path string) string {
		return fmt.Sprintf("http://%s%s", net.JoinHostPort(addressOf(n), fmt.Sprint(port)), path)
	}
	s.eventually(30*time.Second, "an answer of the node that has the pod", func() error {
		_, body, err := answerFrom(at(nodes[1], port, "/client"))
		if err == nil {
			// The pod sees who asks, not its node.
			if host, _, split := net.SplitHostPort(body); split != nil || host == addressOf(nodes[1]) || strings.HasPrefix(host, "10.244.") {
				t.Errorf("the pod sees %q", body)
			}
		}
		return err
	})
	if _, body, err := answerFrom(at(nodes[0], port, "/hostname")); err == nil {
		t.Errorf("the node without a pod answers %q", body)
	}
	// From inside the cluster every node leads on.
	s.reaches("client-0", at(nodes[0], port, "/hostname"), web.Name)
	for i, want := range []struct{ code, local int }{{http.StatusServiceUnavailable, 0}, {http.StatusOK, 1}} {
		code, body, err := answerFrom(at(nodes[i], check, "/healthz"))
		var said struct {
			Service        struct{ Namespace, Name string }
			LocalEndpoints int
		}
		s.must(err)
		s.must(json.Unmarshal([]byte(body), &said))
		if code != want.code || said.LocalEndpoints != want.local || said.Service.Name != "web" || said.Service.Namespace != s.name {
			t.Errorf("the health check of node %d says %d: %s", i, code, body)
		}
	}
	svc = s.updateService("web", func(svc *corev1.Service) { svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster })
	s.eventually(30*time.Second, "an answer of both nodes", func() error {
		for _, n := range nodes[:2] {
			if _, _, err := answerFrom(at(n, svc.Spec.Ports[0].NodePort, "/hostname")); err != nil {
				return err
			}
		}
		return nil
	})
	if _, _, err := answerFrom(at(nodes[1], check, "/healthz")); err == nil || svc.Spec.HealthCheckNodePort != 0 {
		t.Errorf("the health check answers still, on port %d", svc.Spec.HealthCheckNodePort)
	}
}

func TestNetInternalTrafficLocal(t *testing.T) {
	s := parallel(t)
	nodes := s.nodes()
	clients := s.clients()
	web := s.ready(onNode(probePod("web"), nodes[1].Name))
	svc := service("web", corev1.ServiceTypeClusterIP)
	svc.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
	svc = s.service(svc)
	url := s.urls(svc)[1]
	s.reaches(clients[1], url, web.Name)
	s.cannotReach(clients[0], url)
	s.updateService("web", func(svc *corev1.Service) {
		svc.Spec.InternalTrafficPolicy = ptr.To(corev1.ServiceInternalTrafficPolicyCluster)
	})
	s.reaches(clients[0], url, web.Name)
}

func TestNetTrafficDistribution(t *testing.T) {
	s := parallel(t)
	nodes := s.nodes()
	clients := s.clients()
	var names []string
	for i, n := range nodes[:2] {
		p := onNode(probePod(fmt.Sprintf("web-%d", i)), n.Name)
		p.Labels["app"] = "web"
		names = append(names, s.ready(p).Name)
	}
	svc := service("web", corev1.ServiceTypeClusterIP)
	svc.Spec.TrafficDistribution = ptr.To(corev1.ServiceTrafficDistributionPreferSameNode)
	svc = s.service(svc)
	url := s.urls(svc)[1]
	for i, from := range clients[:2] {
		s.eventually(30*time.Second, from+" asks its own node's pod alone", func() error {
			got, err := s.answers(from, url, 20)
			if err == nil && (len(got) != 1 || got[0] != names[i]) {
				err = fmt.Errorf("%v answered", got)
			}
			return err
		})
	}
	// Preferred, not required.
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, names[0], metav1.DeleteOptions{}))
	s.reaches(clients[0], url, names[1])
	s.updateService("web", func(svc *corev1.Service) { svc.Spec.TrafficDistribution = nil })
	s.reaches(clients[1], url, names[1])
}

// TestNetTerminatingEndpoint asks a Service whose only pod is on its way out and
// still serves.
func TestNetTerminatingEndpoint(t *testing.T) {
	s := parallel(t)
	clients := s.clients()
	p := probePod("web", "serve", "--linger", "60s")
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](65)
	p.Spec.Containers[0].ReadinessProbe = readyProbe()
	s.ready(p)
	url := s.urls(s.service(service("web", corev1.ServiceTypeNodePort)))
	for _, u := range url {
		s.reaches(clients[0], u, "web")
	}
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, "web", metav1.DeleteOptions{}))
	s.eventually(20*time.Second, "a terminating endpoint", func() error {
		for _, slice := range s.slices("web") {
			for _, e := range slice.Endpoints {
				if c := e.Conditions; ptr.Deref(c.Terminating, false) && ptr.Deref(c.Serving, false) && !ptr.Deref(c.Ready, true) {
					return nil
				}
			}
		}
		return fmt.Errorf("there is none")
	})
	for range 2 {
		for _, from := range clients {
			for _, u := range url {
				if got, err := s.answers(from, u, 3); err != nil || len(got) != 1 {
					t.Fatalf("%s asks the terminating pod by %s: %v %v", from, u, got, err)
				}
			}
		}
	}
	// A ready pod takes over at once.
	next := probePod("next")
	next.Labels["app"] = "web"
	s.ready(next)
	for _, u := range url {
		s.eventually(10*time.Second, "the ready pod alone answers", func() error {
			got, err := s.answers(clients[0], u, 10)
			if err == nil && (len(got) != 1 || got[0] != "next") {
				err = fmt.Errorf("%v answered", got)
			}
			return err
		})
	}
}

func TestNetLoadBalancerSourceRanges(t *testing.T) {
	s := parallel(t)
	s.ready(probePod("web"))
	svc := service("web", corev1.ServiceTypeLoadBalancer)
	svc.Spec.LoadBalancerClass = ptr.To("example.com/nobody")
	svc.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"}
	svc = s.service(svc)
	// An address that leads to the nodes and that nobody else has.
	const address = "203.0.113.77"
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address, IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)}}
	_, err := s.client.CoreV1().Services(s.name).UpdateStatus(s.ctx, svc, metav1.UpdateOptions{})
	s.must(err)
	client := s.ready(probePod("client", "sleep"))
	url := "http://" + address + "/hostname"
	s.reaches("client", s.urls(svc)[1], "web")
	if got, err := s.answers("client", url, 1); err == nil {
		t.Errorf("%v answers one from outside the ranges", got)
	}
	s.updateService("web", func(svc *corev1.Service) {
		svc.Spec.LoadBalancerSourceRanges = append(svc.Spec.LoadBalancerSourceRanges, client.Status.PodIP+"/32")
	})
	s.reaches("client", url, "web")
}
