// Package setup is kubeadm's work: the phases of init, join and reset, with
// kubeadm's names. Each phase says what it did; with DryRun it says what it
// would do.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"skiff/cluster/config"
	"skiff/cluster/layout"
)

// Machine is where the phases work.
type Machine struct {
	Layout layout.Layout
	// Out receives what is told to the person at the terminal.
	Out io.Writer
	// Executable is started as `Executable run --root …`; empty leaves the
	// process to whoever runs the phases.
	Executable string
	// Logging are the flags of how the process that is started logs.
	Logging []string
	// NetNS is the name of the network namespace the node lives in; empty is
	// the caller's own.
	NetNS string
	// DryRun changes nothing.
	DryRun bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time

	// exited is closed when the process that the phases started has ended.
	exited <-chan struct{}
}

// RunArgs are the arguments of the process of a node with the layout l.
func (m *Machine) RunArgs(l layout.Layout) []string {
	return append([]string{"run", "--root", l.Root()}, m.Logging...)
}

func (m *Machine) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

func (m *Machine) say(phase, format string, args ...any) {
	fmt.Fprintf(m.Out, "[%s] %s\n", phase, fmt.Sprintf(format, args...))
}

// do executes one change, or says what it would be.
func (m *Machine) do(phase, what string, change func() error) error {
	if m.DryRun {
		m.say(phase, "Would %s", what)
		return nil
	}
	return change()
}

// method makes a method of a workflow's data a phase of it.
func method[D any](f func(D, context.Context) error) func(context.Context, D) error {
	return func(ctx context.Context, data D) error { return f(data, ctx) }
}

// Facts are what the defaults of a configuration depend on.
func (m *Machine) Facts(version string) (config.Facts, error) {
	name, err := m.Layout.NodeName()
	if err != nil {
		return config.Facts{}, err
	}
	return config.Facts{
		NodeName:  name,
		Address:   DefaultAddress(),
		CRISocket: m.Layout.CRISocket(),
		StateDir:  m.Layout.State(),
		PKI:       m.Layout.PKI(),
		Version:   version,
	}, nil
}

// DefaultAddress is the source address of the default route, else the first
// global address; nil when there is none. No packet is sent.
func DefaultAddress() net.IP {
	for _, target := range []string{"192.0.2.255:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", target)
		if err != nil {
			continue
		}
		ip := conn.LocalAddr().(*net.UDPAddr).IP
		conn.Close()
		if ip.IsGlobalUnicast() {
			return ip
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP
		}
	}
	return nil
}

// clientFor makes a client from a kubeconfig file.
func clientFor(path string) (kubernetes.Interface, *rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	cfg.QPS, cfg.Burst = -1, -1
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return client, cfg, nil
}

// retry calls try until it succeeds, ctx ends or timeout passes. The pause
// grows from 20 ms to 500 ms: what is waited for is mostly another process.
func retry(ctx context.Context, timeout time.Duration, try func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began, pause := time.Now(), 20*time.Millisecond
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if f := (fatal{}); errors.As(err, &f) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("gave up after %s: %w", time.Since(began).Round(time.Second), err)
		case <-timer.C:
		}
		pause = min(pause*3/2, 500*time.Millisecond)
	}
}
