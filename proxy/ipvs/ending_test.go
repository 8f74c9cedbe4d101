package ipvs

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"skiff/proxy/packettest"
	"skiff/proxy/state"
)

// TestEnding takes an endpoint away while a client has a connection to it.
func TestEnding(t *testing.T) {
	if err := Available(); err != nil {
		t.Skip(err)
	}
	w := packettest.NewWorld(t)
	options := Options{Scheduler: "lc", TCPTimeout: time.Hour, TCPFinTimeout: time.Minute, UDPTimeout: 30 * time.Second}
	var writer *Writer
	w.Node.Must(t, func() (err error) {
		writer, err = NewWriter(Config{Local: state.Local{Ranges: []netip.Prefix{packettest.Pods()}}, MasqueradeBit: 14, Options: options})
		return err
	})
	conf, err := writer.kernel.ipvs.GetConfig()
	if err != nil || conf.TimeoutTCP != options.TCPTimeout || conf.TimeoutTCPFin != options.TCPFinTimeout || conf.TimeoutUDP != options.UDPTimeout {
		t.Errorf("timeouts %v, %v", conf, err)
	}
	// echoes answers with what it gets.
	var echoes net.Listener
	w.Pod1.Must(t, func() (err error) {
		echoes, err = net.Listen("tcp", ":9000")
		return err
	})
	defer echoes.Close()
	go func() {
		for {
			c, err := echoes.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // until the client has gone
			}()
		}
	}()
	table := state.NewTable()
	set := func(ends ...string) {
		t.Helper()
		p := testPort(func(p *state.Port) { p.Cluster = nil })
		for _, at := range ends {
			p.Cluster = append(p.Cluster, state.Endpoint{Addr: netip.MustParseAddrPort(at), Local: true, Ready: true})
		}
		table.Set(p.Name.NamespacedName, []state.Port{*p})
		w.Node.Must(t, func() error { return writer.Sync(context.Background(), table, false) })
	}
	first, second := packettest.PodIPs()[0]+":9000", packettest.PodIPs()[1]+":8080"
	set(first)
	var c net.Conn
	w.Client.Must(t, func() (err error) {
		c, err = net.DialTimeout("tcp", "10.96.0.1:80", 10*time.Second)
		return err
	})
	defer c.Close()
	echo := func(when string) {
		t.Helper()
		b := make([]byte, len(when))
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Write([]byte(when))
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		if err != nil || string(b) != when {
			t.Errorf("%s: %q, %v", when, b, err)
		}
	}
	echo("at first")
	set(second)
	for range 5 {
		if who, _, err := w.Client.Ask("tcp", "10.96.0.1:80", 10*time.Second); err != nil || who != "pod2" {
			t.Errorf("a new connection: %q, %v", who, err)
		}
	}
	echo("when the endpoint has gone")
	name := serverName{netip.MustParseAddrPort("10.96.0.1:80"), "TCP"}
	w.Node.Must(t, func() error {
		ok, err := writer.Intact()
		if !ok {
			t.Error("what was just written is not intact")
		}
		return err
	})
	if weight, ok := writer.have[name].endpoints[netip.MustParseAddrPort(first)]; !ok || weight != 0 {
		t.Errorf("the endpoint with a connection has the weight %d, there %v", weight, ok)
	}
	echo("after a look at it")
	// One that nobody has a connection to goes at the next look.
	set(second, packettest.PodIPs()[0]+":9001")
	set(second)
	w.Node.Must(t, func() error {
		_, err := writer.Intact()
		return err
	})
	if _, ok := writer.have[name].endpoints[netip.MustParseAddrPort(packettest.PodIPs()[0]+":9001")]; ok {
		t.Error("an endpoint without a connection stays")
	}
	w.Node.Must(t, Clean)
}
