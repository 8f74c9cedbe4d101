package etcdtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// memberEnv has the description of the member that a process is.
const memberEnv = "SKIFF_ETCD_MEMBER"

// member describes one process of a cluster.
type member struct {
	Name, Dir, Client, Peer, Cluster string
}

// Main makes a member of a cluster of the process, when it was started as one. A
// package whose tests use Cluster calls it first in TestMain.
func Main() {
	text := os.Getenv(memberEnv)
	if text == "" {
		return
	}
	if err := runMember(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runMember(text string) error {
	var m member
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return err
	}
	one := func(address string) []url.URL { return []url.URL{{Scheme: "http", Host: address}} }
	cfg := config(m.Dir)
	cfg.Name = m.Name
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = one(m.Client), one(m.Client)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = one(m.Peer), one(m.Peer)
	cfg.InitialCluster = m.Cluster
	e, err := serve(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return nil
}

// Cluster is an etcd cluster of processes.
type Cluster struct {
	t       testing.TB
	members []member
	running []*exec.Cmd
}

// NewCluster starts a cluster of n members that ends with the test.
func NewCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t, running: make([]*exec.Cmd, n)}
	var all []string
	addresses := freeAddresses(t, 2*n)
	for i := range n {
		m := member{Name: fmt.Sprintf("m%d", i), Dir: filepath.Join(t.TempDir(), "data"), Client: addresses[2*i], Peer: addresses[2*i+1]}
		c.members = append(c.members, m)
		all = append(all, m.Name+"=http://"+m.Peer)
	}
	for i := range c.members {
		c.members[i].Cluster = strings.Join(all, ",")
		c.Up(i)
	}
	t.Cleanup(func() {
		for i := range c.members {
			c.Kill(i)
		}
	})
	return c
}

// freeAddresses are n different addresses of this machine that nobody uses at the
// moment: the members must know each other's before they start.
func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		// Not before all are found: the next could be the same.
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

// Endpoints are the members' URLs for clients.
func (c *Cluster) Endpoints() []string {
	var out []string
	for _, m := range c.members {
		out = append(out, "http://"+m.Client)
	}
	return out
}

// Single is the command of an etcd of one member with its data in dir, serving
// clients at an address. The caller's TestMain calls Main.
func Single(t testing.TB, dir, client string) *exec.Cmd {
	t.Helper()
	m := member{Name: "m0", Dir: dir, Client: client, Peer: freeAddresses(t, 1)[0]}
	m.Cluster = m.Name + "=http://" + m.Peer
	return command(t, m)
}

// command starts the process that is a member.
func command(t testing.TB, m member) *exec.Cmd {
	text, err := json.Marshal(m)
	if err != nil {
		t.Error(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), memberEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	return cmd
}

// Up starts a member.
func (c *Cluster) Up(i int) {
	cmd := command(c.t, c.members[i])
	if err := cmd.Start(); err != nil {
		c.t.Error(err)
		return
	}
	c.running[i] = cmd
}

// Kill kills a member.
func (c *Cluster) Kill(i int) {
	if cmd := c.running[i]; cmd != nil {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		c.running[i] = nil
	}
}
