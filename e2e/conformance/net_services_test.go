package conformance

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Conformance: [sig-network] Services should be able to create a functioning NodePort service
func TestNetNodePort(t *testing.T) {
	s := parallel(t)
	s.clientPod()
	pods := s.backends("web", 2)
	svc := s.service(service("web", corev1.ServiceTypeNodePort))
	if p := svc.Spec.Ports[0].NodePort; p < 30000 || p > 32767 || net.ParseIP(svc.Spec.ClusterIP) == nil {
		t.Errorf("the service got node port %d and cluster IP %q", p, svc.Spec.ClusterIP)
	}
	s.reachesService("client", svc, podNames(pods)...)
}

// cnameOf waits until DNS says that a Service is another name.
func (s *space) cnameOf(service, target string) {
	s.t.Helper()
	s.eventually(60*time.Second, service+" is "+target, func() error {
		out, err := s.exec("client", "main", "/probe", "dig", "udp", "CNAME", service+"."+s.name+".svc.cluster.local.")
		if err == nil && !slices.Contains(strings.Split(out, "\n"), "CNAME "+target+".") {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
}

// Conformance: [sig-network] Services should be able to change the type from ExternalName to ClusterIP
// Conformance: [sig-network] Services should be able to change the type from ExternalName to NodePort
func TestNetFromExternalName(t *testing.T) {
	for _, kind := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort} {
		t.Run(string(kind), func(t *testing.T) {
			s := parallel(t)
			svc := s.service(external("web", "foo.example.com"))
			if svc.Spec.ClusterIP != "" {
				t.Errorf("the cluster IP is %q, want none", svc.Spec.ClusterIP)
			}
			s.clientPod()
			pods := s.backends("web", 2)
			svc = s.updateService("web", func(svc *corev1.Service) {
				svc.Spec = service("web", kind).Spec
			})
			if net.ParseIP(svc.Spec.ClusterIP) == nil || svc.Spec.ExternalName != "" || len(svc.Spec.ClusterIPs) == 0 || len(svc.Spec.IPFamilies) == 0 {
				t.Errorf("the changed service is %+v", svc.Spec)
			}
			if got := svc.Spec.Ports[0].NodePort != 0; got != (kind == corev1.ServiceTypeNodePort) {
				t.Errorf("the node port is %d", svc.Spec.Ports[0].NodePort)
			}
			s.reachesService("client", svc, podNames(pods)...)
		})
	}
}

// Conformance: [sig-network] Services should be able to change the type from ClusterIP to ExternalName
// Conformance: [sig-network] Services should be able to change the type from NodePort to ExternalName
func TestNetToExternalName(t *testing.T) {
	for _, kind := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort} {
		t.Run(string(kind), func(t *testing.T) {
			s := parallel(t)
			s.clientPod()
			pods := s.backends("other", 1)
			other := s.service(service("other", corev1.ServiceTypeClusterIP))
			before := s.service(service("web", kind))
			target := "other." + s.name + ".svc.cluster.local"
			svc := s.updateService("web", func(svc *corev1.Service) {
				svc.Spec.Type = corev1.ServiceTypeExternalName
				svc.Spec.ExternalName = target
			})
			if svc.Spec.ClusterIP != "" || len(svc.Spec.ClusterIPs) != 0 || svc.Spec.Ports[0].NodePort != 0 {
				t.Errorf("the changed service has cluster IP %q and node port %d", svc.Spec.ClusterIP, svc.Spec.Ports[0].NodePort)
			}
			s.cnameOf("web", target)
			out := s.mustExec("client", "main", "/probe", "lookup", "web."+s.name+".svc.cluster.local")
			if strings.TrimSpace(out) != other.Spec.ClusterIP {
				t.Errorf("web is %q, want %s", out, other.Spec.ClusterIP)
			}
			s.reaches("client", "http://web/hostname", podNames(pods)...)
			// What was given back can be given again.
			again := service("again", kind)
			again.Spec.ClusterIP = before.Spec.ClusterIP
			again.Spec.Ports[0].NodePort = before.Spec.Ports[0].NodePort
			s.service(again)
		})
	}
}

// Conformance: [sig-network] Services should have session affinity work for NodePort service [LinuxOnly]
// Conformance: [sig-network] Services should have session affinity work for service with type clusterIP [LinuxOnly]
// Conformance: [sig-network] Services should be able to switch session affinity for NodePort service [LinuxOnly]
// Conformance: [sig-network] Services should be able to switch session affinity for service with type clusterIP [LinuxOnly]
//
// Covers: proxy.affinity
func TestNetAffinity(t *testing.T) {
	for _, kind := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort} {
		t.Run(string(kind), func(t *testing.T) {
			s := parallel(t)
			s.clientPod()
			pods := s.backends("web", 3)
			svc := service("web", kind)
			svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			svc = s.service(svc)
			if got := svc.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds; *got != 10800 {
				t.Errorf("the timeout is %ds, want three hours", *got)
			}
			sticks := func() {
				t.Helper()
				for _, url := range s.urls(svc) {
					s.eventually(60*time.Second, url+" sticks to a pod", func() error {
						got, err := s.answers("client", url, 20)
						if err == nil && len(got) != 1 {
							err = fmt.Errorf("%v answered", got)
						}
						return err
					})
				}
			}
			sticks()
			svc = s.updateService("web", func(svc *corev1.Service) { svc.Spec.SessionAffinity = corev1.ServiceAffinityNone })
			if svc.Spec.SessionAffinityConfig != nil {
				t.Errorf("the configuration is %+v, want none", svc.Spec.SessionAffinityConfig)
			}
			s.reachesService("client", svc, podNames(pods)...)
			svc = s.updateService("web", func(svc *corev1.Service) { svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })
			sticks()
		})
	}
}

// TestNetAffinityTimeout forgets a client that has been away for longer than the
// timeout.
//
// Covers: proxy.affinity
func TestNetAffinityTimeout(t *testing.T) {
	s := parallel(t)
	s.clientPod()
	s.backends("web", 3)
	svc := service("web", corev1.ServiceTypeClusterIP)
	svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr.To[int32](2)}}
	svc = s.service(svc)
	url := s.urls(svc)[1]
	s.reaches("client", url)
	seen := map[string]bool{}
	s.eventually(60*time.Second, "a second pod", func() error {
		got, err := s.answers("client", url, 5)
		if err != nil {
			return err
		}
		if len(got) != 1 {
			t.Errorf("%v answered within the timeout", got)
		}
		if seen[got[0]] = true; len(seen) < 2 {
			time.Sleep(2500 * time.Millisecond) // the client is away
			return fmt.Errorf("%v alone", got)
		}
		return nil
	})
}

// Conformance: [sig-network] Services should serve endpoints on same port and different protocols
func TestNetSamePortTwoProtocols(t *testing.T) {
	s := parallel(t)
	s.clientPod()
	p := probePod("web", "serve", "--udp", ":8080")
	name := s.ready(p).Name
	svc := service("web", corev1.ServiceTypeClusterIP)
	both := []corev1.ServicePort{
		{Name: "tcp", Port: 80, TargetPort: portNumber(8080), Protocol: corev1.ProtocolTCP},
		{Name: "udp", Port: 80, TargetPort: portNumber(8080), Protocol: corev1.ProtocolUDP},
	}
	svc.Spec.Ports = both
	svc = s.service(svc)
	tcp, udp := "http://"+svc.Spec.ClusterIP+"/hostname", svc.Spec.ClusterIP+":80"
	s.reaches("client", tcp, name)
	s.reaches("client", udp, name)
	s.updateService("web", func(svc *corev1.Service) { svc.Spec.Ports = both[:1] })
	s.cannotReach("client", udp)
	s.reaches("client", tcp, name)
	s.updateService("web", func(svc *corev1.Service) { svc.Spec.Ports = both[1:] })
	s.cannotReach("client", tcp)
	s.reaches("client", udp, name)
}

// Conformance: [sig-network] Services should serve a basic endpoint from pods
// Conformance: [sig-network] Services should serve multiport endpoints from pods
func TestNetEndpointsOfPods(t *testing.T) {
	s := parallel(t)
	svc := service("web", corev1.ServiceTypeClusterIP)
	svc.Spec.Ports = []corev1.ServicePort{
		{Name: "one", Port: 80, TargetPort: portName("one")}, {Name: "two", Port: 81, TargetPort: portName("two")},
	}
	svc = s.service(svc)
	s.clientPod()
	s.endpointsAre("web")
	with := func(name, port string, number int32) string {
		p := probePod(name, "serve", "--http", fmt.Sprintf(":%d", number))
		p.Labels["app"] = "web"
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: port, ContainerPort: number}}
		return net.JoinHostPort(s.ready(p).Status.PodIP, fmt.Sprint(number))
	}
	first := with("first", "one", 100)
	s.endpointsAre("web", first)
	s.reaches("client", "http://"+svc.Spec.ClusterIP+":80/hostname", "first")
	second := with("second", "two", 101)
	s.endpointsAre("web", first, second)
	s.reaches("client", "http://"+svc.Spec.ClusterIP+":80/hostname", "first")
	s.reaches("client", "http://"+svc.Spec.ClusterIP+":81/hostname", "second")
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, "first", metav1.DeleteOptions{}))
	s.endpointsAre("web", second)
	s.cannotReach("client", "http://"+svc.Spec.ClusterIP+":80/hostname")
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, "second", metav1.DeleteOptions{}))
	s.endpointsAre("web")
}
