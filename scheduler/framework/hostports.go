package framework

import v1 "k8s.io/api/core/v1"

// HostPort is a port that a pod takes on its node.
type HostPort struct {
	IP       string
	Protocol v1.Protocol
	Port     int32
}

const anyIP = "0.0.0.0"

func (p HostPort) normal() HostPort {
	if p.IP == "" {
		p.IP = anyIP
	}
	if p.Protocol == "" {
		p.Protocol = v1.ProtocolTCP
	}
	return p
}

// HostPorts counts the users of each host port: two pods of a node may hold the
// same one, for example while a static pod is being replaced.
type HostPorts map[HostPort]int

// Conflicts is true when p is taken: the wildcard address conflicts with every address.
func (h HostPorts) Conflicts(p HostPort) bool {
	if p.Port <= 0 || len(h) == 0 {
		return false
	}
	p = p.normal()
	if p.IP != anyIP {
		wild := p
		wild.IP = anyIP
		return h[p] > 0 || h[wild] > 0
	}
	for o := range h {
		if o.Port == p.Port && o.Protocol == p.Protocol {
			return true
		}
	}
	return false
}

func (h HostPorts) add(p HostPort) {
	if p.Port > 0 {
		h[p.normal()]++
	}
}

func (h HostPorts) remove(p HostPort) {
	p = p.normal()
	if h[p] <= 1 {
		delete(h, p)
	} else {
		h[p]--
	}
}

// PodHostPorts lists the host ports of containers and sidecars.
func PodHostPorts(pod *v1.Pod) []HostPort {
	var out []HostPort
	take := func(c *v1.Container) {
		for i := range c.Ports {
			if p := &c.Ports[i]; p.HostPort > 0 {
				out = append(out, HostPort{IP: p.HostIP, Protocol: p.Protocol, Port: p.HostPort}.normal())
			}
		}
	}
	for i := range pod.Spec.Containers {
		take(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			take(c)
		}
	}
	return out
}
