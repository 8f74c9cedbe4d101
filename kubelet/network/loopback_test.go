package network

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pod cannot reach what listens on its node's 127.0.0.1 for the node alone,
// though the kernel was told to route there for host ports (CVE-2020-8558).
//
// Covers: net.host-port
func TestLoopbackIsTheHostsAlone(t *testing.T) {
	a, _ := twoHosts(t)
	pod, _ := a.pod("pod0123456789abc")
	listen := func(address string) (conn *net.UDPConn) {
		a.in(func() (err error) {
			conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
			return err
		})
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	private, public := listen("127.0.0.1:7000"), listen("0.0.0.0:7001")
	send := func(from space, device, to string) {
		from.in(func() error {
			d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
				var bound error
				err := c.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), device) })
				return errors.Join(err, bound)
			}}
			c, err := d.Dial("udp4", to)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte(device))
			return err
		})
	}
	// The second packet goes the same way as the first: once it is there, the
	// first would be.
	send(pod, "eth0", "127.0.0.1:7000")
	send(pod, "eth0", gateway(a.cidr).String()+":7001")
	b := make([]byte, 16)
	if err := public.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := public.Read(b); err != nil {
		t.Fatalf("the node does not hear the pod at all: %v", err)
	}
	raw, err := private.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Read(func(fd uintptr) bool {
		if n, err := unix.Read(int(fd), b); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("the pod's packet for the loopback came in: %q, %v", b[:n], err)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	send(a.space, "lo", "127.0.0.1:7000")
	if err := private.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := private.Read(b); err != nil || string(b[:n]) != "lo" {
		t.Errorf("the node does not hear itself: %q, %v", b[:n], err)
	}
}
