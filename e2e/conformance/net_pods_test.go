package conformance

import (
	"fmt"
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func portName(name string) intstr.IntOrString { return intstr.FromString(name) }

// onNode puts a pod on a node.
func onNode(p *corev1.Pod, node string) *corev1.Pod {
	p.Spec.NodeSelector = map[string]string{hostnameLabel: node}
	return p
}

// Conformance: [sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http
// Conformance: [sig-network] Networking Granular Checks: Pods should function for intra-pod communication: udp
// Conformance: [sig-network] Networking Granular Checks: Pods should function for node-pod communication: http [LinuxOnly]
// Conformance: [sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp [LinuxOnly]
func TestNetPods(t *testing.T) {
	s := parallel(t)
	var servers []*corev1.Pod
	var clients []string
	for i, n := range s.nodes() {
		servers = append(servers, s.ready(onNode(probePod(fmt.Sprintf("server-%d", i)), n.Name)))
		s.ready(onNode(probePod(fmt.Sprintf("pod-%d", i), "sleep"), n.Name))
		host := onNode(probePod(fmt.Sprintf("host-%d", i), "sleep"), n.Name)
		host.Spec.HostNetwork = true
		s.ready(host)
		clients = append(clients, fmt.Sprintf("pod-%d", i), host.Name)
	}
	for _, from := range append(clients, "server-0") {
		for _, to := range servers {
			s.reaches(from, "http://"+net.JoinHostPort(to.Status.PodIP, "8080")+"/hostname", to.Name)
			s.reaches(from, net.JoinHostPort(to.Status.PodIP, "8081"), to.Name)
			// Between pods no address is translated.
			if strings.HasPrefix(from, "pod-") {
				got := s.mustExec(from, "main", "/probe", "get", "http://"+net.JoinHostPort(to.Status.PodIP, "8080")+"/client")
				if host, _, err := net.SplitHostPort(strings.TrimSpace(got)); err != nil || host != s.podIs(from, "there", podReady).Status.PodIP {
					t.Errorf("%s sees %s as %q", to.Name, from, got)
				}
			}
		}
	}
}

// Conformance: [sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol [LinuxOnly]
//
// Covers: net.host-port
func TestNetHostPort(t *testing.T) {
	s := parallel(t)
	node := s.nodes()[0]
	address := s.nodeIPs()[0]
	with := func(name, ip string, protocol corev1.Protocol, target int32) {
		p := onNode(probePod(name), node.Name)
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 54323, ContainerPort: target, HostIP: ip, Protocol: protocol}}
		s.ready(p)
	}
	with("pod1", "127.0.0.1", corev1.ProtocolTCP, 8080)
	with("pod2", address, corev1.ProtocolTCP, 8080)
	with("pod3", address, corev1.ProtocolUDP, 8081)
	client := onNode(probePod("client", "sleep"), node.Name)
	client.Spec.HostNetwork = true
	s.ready(client)
	s.reaches("client", "http://127.0.0.1:54323/hostname", "pod1")
	s.reaches("client", "http://"+address+":54323/hostname", "pod2")
	s.reaches("client", address+":54323", "pod3")
	// From another node and from a pod too.
	s.ready(probePod("pod", "sleep"))
	s.reaches("pod", "http://"+address+":54323/hostname", "pod2")
	s.reaches("pod", address+":54323", "pod3")
}
