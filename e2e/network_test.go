package e2e

import (
	"errors"
	"fmt"
	"strings"
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
