package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"skiff/testdata/images/reach"
)

const (
	// balancer and external are addresses of all Services, by ports of their own; the
	// machine's route to them goes by the first node.
	balancer, external = "203.0.113.10", "203.0.113.100"
	balancerRange      = "203.0.113.0/24"
	sourceOutside      = "outside"
)

// place is where a question comes from.
type place struct {
	name string
	// node is 0 or 1, and -1 outside.
	node int
	// host says that it is the node's own process, or the machine's.
	host bool
	ip   string
}

// serviceCase is a Service, and which pods are its endpoints.
type serviceCase struct {
	name, spec string
	endpoints  []string
	// ending are endpoints that end but serve.
	ending []string
}

// endpointNodes is where the endpoints run.
var endpointNodes = map[string]int{"s1": 0, "s2": 1, "h1": 0, "e1": 0, "e2": 1}

var serviceCases = []serviceCase{
	{name: "cluster", spec: "{}", endpoints: []string{"s1", "s2"}},
	{name: "nothing", spec: "{}"},
	{name: "internal-local", spec: "{internalTrafficPolicy: Local}", endpoints: []string{"s1"}},
	{name: "local", spec: "{externalTrafficPolicy: Local}", endpoints: []string{"s1"}},
	{name: "local-both", spec: "{externalTrafficPolicy: Local, internalTrafficPolicy: Local}", endpoints: []string{"s2"}},
	{name: "affinity", spec: "{sessionAffinity: ClientIP}", endpoints: []string{"s1", "s2"}},
	{name: "ranges", spec: "{loadBalancerSourceRanges: [OUTSIDE, NODE4]}", endpoints: []string{"s1", "s2"}},
	{name: "host", spec: "{}", endpoints: []string{"h1"}},
	{name: "host-local", spec: "{externalTrafficPolicy: Local}", endpoints: []string{"h1"}},
	{name: "ending", spec: "{}", ending: []string{"e1", "e2"}},
	{name: "ending-beside", spec: "{}", endpoints: []string{"s2"}, ending: []string{"e1"}},
	{name: "ending-local", spec: "{externalTrafficPolicy: Local}", endpoints: []string{"s2"}, ending: []string{"e1"}},
}

// serviceTable asks every address of Services of every policy from pods, from nodes
// and from outside, and compares with what Kubernetes says about each.
//
// Covers: proxy.traffic-policy, proxy.terminating, proxy.affinity
func serviceTable(s *space) {
	nodes := strings.Fields(s.run("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
	nodeIPs := make([]string, 2)
	for i := range nodeIPs {
		nodeIPs[i] = s.field("node/"+nodes[i], ".status.addresses[0].address")
	}
	machine := nodeIPs[0][:strings.LastIndex(nodeIPs[0], ".")] + ".1" // on the nodes' link
	var manifest strings.Builder
	// UDP is served at one address: from a socket of all addresses a node would
	// answer its own pods with another than they asked.
	server := func(name string, node int, extra string) {
		var marks []string
		for _, c := range serviceCases {
			if slices.Contains(c.endpoints, name) || slices.Contains(c.ending, name) {
				marks = append(marks, c.name+`: "1"`)
			}
		}
		fmt.Fprintf(&manifest, `apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {%s}}
spec:
  nodeName: %s
  %s
  containers: [{name: main, image: probe, args: [serve, --http, ":18480", --udp, "$(ADDRESS):18480", --tcp, "", --linger, 300s], env: [{name: ADDRESS, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]}]
---
`, name, strings.Join(marks, ", "), nodes[node], extra)
	}
	server("s1", 0, "terminationGracePeriodSeconds: 0")
	server("s2", 1, "terminationGracePeriodSeconds: 0")
	server("h1", 0, "{terminationGracePeriodSeconds: 0, hostNetwork: true}")
	server("e1", 0, "terminationGracePeriodSeconds: 300")
	server("e2", 1, "terminationGracePeriodSeconds: 300")
	s.apply(strings.ReplaceAll(manifest.String(), "  {terminationGracePeriodSeconds: 0, hostNetwork: true}", "  terminationGracePeriodSeconds: 0\n  hostNetwork: true"))
	manifest.Reset()
	for i, node := range nodes[:2] {
		manifest.WriteString(pod(fmt.Sprint("pod-", i), `"sleep"`, "  nodeName: "+node) + "\n---\n")
		manifest.WriteString(pod(fmt.Sprint("host-", i), `"sleep"`, "  hostNetwork: true\n  nodeName: "+node) + "\n---\n")
	}
	ranges := strings.NewReplacer("NODE4", s.field("node/"+nodes[0], ".spec.podCIDR"), "OUTSIDE", machine+"/32")
	var names []string
	for i, c := range serviceCases {
		rest := ranges.Replace(strings.TrimSuffix(strings.TrimPrefix(c.spec, "{"), "}"))
		if rest != "" {
			rest += ", "
		}
		names = append(names, c.name)
		fmt.Fprintf(&manifest, `apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {%stype: LoadBalancer, loadBalancerClass: example.com/nobody, externalIPs: [%s], selector: {%s: "1"}, ports: [{name: tcp, port: %d, targetPort: 18480}, {name: udp, port: %d, targetPort: 18480, protocol: UDP}]}
---
`, c.name, rest, external, c.name, 1000+i, 1000+i)
	}
	s.apply(manifest.String())
	s.ready("pods", "--all")
	s.run("delete", "pod", "e1", "e2", "--wait=false")
	s.run(append([]string{"patch", "service", "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":[{"ip":"` + balancer + `"}]}}}`}, names...)...)
	var services v1.ServiceList
	if err := json.Unmarshal([]byte(s.run("get", "services", "-o", "json")), &services); err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command("ip", "route", "replace", balancerRange, "via", nodeIPs[0]).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	s.t.Cleanup(func() {
		if out, err := exec.Command("ip", "route", "del", balancerRange).CombinedOutput(); err != nil {
			s.t.Errorf("%v: %s", err, out)
		}
	})
	askers := map[string]asker{sourceOutside: outside{s.t.Context()}}
	places := []place{{name: sourceOutside, node: -1, host: true}}
	for _, p := range []place{
		{name: "pod-0"}, {name: "pod-1", node: 1}, {name: "host-0", host: true}, {name: "host-1", node: 1, host: true},
		{name: "s1"}, {name: "s2", node: 1}, // endpoints, which may be led to themselves
	} {
		p.ip = s.field("pod/"+p.name, ".status.podIP")
		askers[p.name] = s.inside(s.name, p.name)
		places = append(places, p)
	}
	var questions []question
	for _, c := range serviceCases {
		at := slices.IndexFunc(services.Items, func(svc v1.Service) bool { return svc.Name == c.name })
		svc := &services.Items[at]
		for _, from := range places {
			// Where rules need not change who asks they do not.
			var podSeen, outsideSeen string
			if strings.HasPrefix(from.name, "pod-") && !slices.Contains(c.endpoints, "h1") {
				podSeen = from.ip
			}
			if from.node < 0 && svc.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal {
				outsideSeen = machine
			}
			for _, port := range svc.Spec.Ports {
				ask := func(ip string, number int32, want []string, sees string) {
					target := strings.ToLower(string(port.Protocol)) + ":" + net.JoinHostPort(ip, fmt.Sprint(number))
					questions = append(questions, question{from: from.name, target: target, want: want, sees: sees})
				}
				if from.node >= 0 {
					ask(svc.Spec.ClusterIP, port.Port, c.ledInside(svc, from.node), podSeen)
				}
				for n, ip := range nodeIPs {
					ask(ip, port.NodePort, c.led(svc, n, from.node == n), outsideSeen)
				}
				at := max(from.node, 0) // where rules meet the packet
				ask(external, port.Port, c.led(svc, at, from.node >= 0), outsideSeen)
				want := c.led(svc, at, from.node >= 0)
				if len(svc.Spec.LoadBalancerSourceRanges) > 0 && from.node != -1 && !(from.node == 0 && !from.host) {
					want = []string{reach.Nobody}
				}
				ask(balancer, port.Port, want, outsideSeen)
			}
		}
	}
	hostname, err := os.Hostname()
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range questions {
		q := &questions[i]
		for j, want := range q.want {
			if want == "h1" { // a pod on the host's network has the machine's name
				q.want[j] = hostname
			}
		}
	}
	s.holds("services", askers, questions)
	s.sticks(askers, services.Items[slices.IndexFunc(services.Items, func(svc v1.Service) bool { return svc.Name == "affinity" })])
}

// sticks asks a Service with session affinity again and again: each asker has one
// endpoint of its own.
func (s *space) sticks(askers map[string]asker, svc v1.Service) {
	s.t.Helper()
	targets := slices.Repeat([]string{"tcp:" + net.JoinHostPort(svc.Spec.ClusterIP, fmt.Sprint(svc.Spec.Ports[0].Port))}, 10)
	for _, from := range []string{"pod-0", "pod-1", "host-0", "host-1"} {
		answers, err := askers[from].ask(targets)
		if err != nil {
			s.t.Fatal(err)
		}
		slices.Sort(answers)
		if led := slices.Compact(answers); len(led) != 1 {
			s.t.Errorf("%s is led by session affinity to %q", from, led)
		}
	}
}

// led are the endpoints that may answer what meets a node's rules at an address for
// others: inside tells what the node and its own pods ask from what comes from
// elsewhere.
func (c serviceCase) led(svc *v1.Service, node int, inside bool) []string {
	if svc.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal && !inside {
		return c.here(node)
	}
	return firstOf(c.endpoints, c.ending)
}

// ledInside are those that may answer at the cluster IP.
func (c serviceCase) ledInside(svc *v1.Service, node int) []string {
	if *svc.Spec.InternalTrafficPolicy == v1.ServiceInternalTrafficPolicyLocal {
		return c.here(node)
	}
	return firstOf(c.endpoints, c.ending)
}

// here are those of a node.
func (c serviceCase) here(node int) []string {
	elsewhere := func(name string) bool { return endpointNodes[name] != node }
	return firstOf(slices.DeleteFunc(slices.Clone(c.endpoints), elsewhere), slices.DeleteFunc(slices.Clone(c.ending), elsewhere))
}

// firstOf prefers those that are ready to those that end.
func firstOf(lists ...[]string) []string {
	for _, l := range lists {
		if len(l) > 0 {
			return slices.Clone(l)
		}
	}
	return []string{reach.Nobody}
}
