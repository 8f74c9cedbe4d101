package e2e

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// serviceLoadBalancer asks a LoadBalancer Service at the addresses it was given.
//
// Covers: service.load-balancer
func serviceLoadBalancer(s *space) {
	s.web()
	s.run("patch", "service", "web", "-p", `{"spec":{"type":"LoadBalancer"}}`)
	var addresses []string
	s.eventually(30*time.Second, "an address of the load balancer", func() error {
		out, err := s.try("", "get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
		if addresses = strings.Fields(out); err == nil && len(addresses) == 0 {
			err = errors.New("there is none yet")
		}
		return err
	})
	for _, address := range addresses {
		s.eventually(30*time.Second, "an answer of the load balancer "+address, func() error {
			body, err := fetch("http://" + address + "/hostname")
			if err == nil && !strings.HasPrefix(body, "web-") {
				err = errors.New(body)
			}
			return err
		})
	}
}

// networkPolicy closes the pods of a Service, opens them to one client and opens
// them to all again.
//
// Covers: net.policy
func networkPolicy(s *space) {
	s.web()
	s.apply(pod("friend", `"sleep"`, ""))
	s.run("label", "pod", "friend", "role=friend", "--overwrite")
	s.ready("pod/friend")
	reaches := func(client string, want bool) {
		s.t.Helper()
		what := map[bool]string{true: "an answer to ", false: "no answer to "}[want] + client
		s.eventually(60*time.Second, what, func() error {
			out, err := s.try("", "exec", client, "--", "/probe", "get", "http://web/hostname")
			if (err == nil) != want {
				return fmt.Errorf("error %v: %s", err, out)
			}
			return nil
		})
	}
	reaches("client", true)
	s.apply(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
    - from: [{podSelector: {matchLabels: {role: friend}}}]
`)
	reaches("client", false)
	reaches("friend", true)
	s.run("delete", "networkpolicy", "friends")
	reaches("client", true)
}

// networkPolicyFromTheStart has pods that may go nowhere ask as the first thing that
// they do.
//
// Covers: net.policy
func networkPolicyFromTheStart(s *space) {
	s.web()
	s.apply(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut}
spec:
  podSelector: {matchLabels: {app: shut}}
  policyTypes: [Egress]
`)
	url := "http://" + s.field("service/web", ".spec.clusterIP") + "/hostname"
	pods := []string{pod("free", `"get", "`+url+`"`, "  restartPolicy: Never\n")}
	for i := range 5 {
		one := pod(fmt.Sprint("shut-", i), `"get", "`+url+`"`, "  restartPolicy: Never\n")
		pods = append(pods, strings.Replace(one, fmt.Sprintf("app: shut-%d", i), "app: shut", 1))
	}
	s.apply(strings.Join(pods, "---\n"))
	s.run("wait", "pod/free", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
	s.run("wait", "pod", "-l", "app=shut", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")
}

// dnsWhileMasterAway kills the master, and asks for names from a pod of the other
// node: one that was asked before, and some that were not.
//
// Covers: dns.node-local
func dnsWhileMasterAway(s *space) {
	if s.Nodes < 2 {
		s.t.Skip("want two nodes")
	}
	worker := strings.Fields(s.run("get", "nodes", "-l", "!node-role.kubernetes.io/control-plane", "-o", "jsonpath={.items[*].metadata.name}"))[0]
	address := s.field("node/"+worker, `.status.addresses[?(@.type=="InternalIP")].address`)
	s.apply(pod("asker", "", "  nodeName: "+worker) + `
---
apiVersion: v1
kind: Service
metadata: {name: asker}
spec: {type: NodePort, externalTrafficPolicy: Local, selector: {app: asker}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: asked}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: never-asked}
spec: {ports: [{port: 80}]}
`)
	s.ready("pod/asker")
	base := "http://" + address + ":" + s.field("service/asker", ".spec.ports[0].nodePort") + "/lookup?name="
	lookup := func(name, want string) {
		s.t.Helper()
		s.eventually(20*time.Second, "an address of "+name, func() error {
			got, err := fetch(base + name)
			if err == nil && strings.TrimSpace(got) != want {
				err = fmt.Errorf("it is %q, want %q", got, want)
			}
			return err
		})
	}
	api, err := s.try("", "get", "service", "kubernetes", "-n", "default", "-o", "jsonpath={.spec.clusterIP}")
	if err != nil {
		s.t.Fatalf("%v: %s", err, api)
	}
	names := map[string]string{
		"asked." + s.name: s.field("service/asked", ".spec.clusterIP"), "kubernetes.default.svc.cluster.local.": api,
		"never-asked": s.field("service/never-asked", ".spec.clusterIP"),
	}
	lookup("asked."+s.name, names["asked."+s.name])
	s.killRoot(s.t, s.Root)
	back := sync.OnceFunc(func() { s.up(s.t) })
	defer back()
	if out, err := s.try("", "get", "--raw=/readyz", "--request-timeout=2s"); err == nil {
		s.t.Errorf("the API server of the killed master answers: %s", out)
	}
	for name, want := range names {
		lookup(name, want)
	}
	back()
	for name, want := range names {
		lookup(name, want)
	}
}
