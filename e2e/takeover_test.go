package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// neighbour is the hardware address that answers for an address on the nodes' link.
func neighbour(ip string) (string, error) {
	if out, err := exec.Command("ip", "neigh", "flush", "to", ip).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	// What is sent first asks for the neighbour.
	c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "10256"), time.Second)
	if err == nil {
		_ = c.Close()
	}
	out, err := exec.Command("ip", "neigh", "show", "to", ip).CombinedOutput()
	if _, rest, ok := strings.Cut(string(out), " lladdr "); ok {
		return strings.Fields(rest)[0], nil
	}
	return "", fmt.Errorf("nobody answers for %s: %w", ip, errors.Join(err, errors.New(strings.TrimSpace(string(out)))))
}

// TestLoadBalancerTakeOver kills the node that announces a load balancer's address. The
// other one has it long before the API server calls the first not ready, and gives it
// back.
//
// Covers: service.load-balancer
func TestLoadBalancerTakeOver(t *testing.T) {
	c := prepare(t)
	if err := c.Configure("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking: {loadBalancerPool: [198.18.0.1-198.18.255.254]}\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remove(t) })
	c.up(t)
	s := c.space(t, "e2e-take-over")
	worker := strings.TrimSpace(s.run("get", "nodes", "-l", "!node-role.kubernetes.io/control-plane", "-o", "jsonpath={.items[0].metadata.name}"))
	own := s.field("node/"+worker, ".status.addresses[0].address")
	ip, err := netip.ParseAddr(own)
	if err != nil {
		t.Fatal(err)
	}
	mac, err := neighbour(own)
	if err != nil {
		t.Fatal(err)
	}
	// Which node has an address follows from both: of many the worker has some.
	var addresses []string
	for i := range 8 {
		four := ip.As4()
		four[3] = byte(200 + i) // the nodes' own addresses are below
		addresses = append(addresses, netip.AddrFrom4(four).String())
		s.apply(fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: balanced%d}\nspec: {type: LoadBalancer, loadBalancerIP: %s, ports: [{port: 80}]}\n", i, addresses[i]))
	}
	address := ""
	s.eventually(time.Minute, "an address of the worker", func() error {
		for _, a := range addresses {
			at, err := neighbour(a)
			if err != nil {
				return err
			}
			if at == mac {
				address = a
			}
		}
		if address == "" {
			return errors.New("it has none")
		}
		return nil
	})
	// moved waits for less than the API server takes to call a node not ready.
	moved := func(what string, wants bool) {
		t.Helper()
		s.eventually(30*time.Second, what, func() error {
			at, err := neighbour(address)
			if err == nil && (at == mac) != wants {
				err = fmt.Errorf("%s is at %s, and the worker at %s", address, at, mac)
			}
			return err
		})
	}
	c.killRoot(t, filepath.Join(c.Root, "nodes/2"))
	moved("the other node has the address", false)
	// skiff up starts all nodes.
	if err := c.Down(); err != nil {
		t.Fatal(err)
	}
	c.up(t)
	moved("the worker has it again", true)
}
