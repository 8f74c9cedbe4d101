package dns

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// BenchmarkQueries counts how many queries the server answers in a second of its
// own processor time; who asks is a process of its own.
func BenchmarkQueries(b *testing.B) {
	resolv := filepath.Join(b.TempDir(), "resolv.conf")
	upstream := outside(b)
	if err := os.WriteFile(resolv, []byte("nameserver "+upstream+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	a := newAPI()
	for i := range 1000 {
		a.add("/api/v1/services", service(fmt.Sprint("service-", i), fmt.Sprintf("10.97.%d.%d", i/256, i%256)))
	}
	s := startFrom(b, a, 0, resolv)
	for _, tc := range []struct{ what, name, answer string }{
		{"service", "service-7.shop.svc.cluster.local.", "10.97.0.7"},
		{"no-such-name", "example.org.shop.svc.cluster.local.", ""},
		{"outside", "example.org.", "192.0.2.1"},
	} {
		b.Run(tc.what, func(b *testing.B) {
			// The first answer fills the cache, and shows that it is the right one.
			code, answers := ask(b, s, "udp", tc.name, mdns.TypeA)
			if want := "A " + tc.answer; tc.answer != "" && (len(answers) != 1 || answers[0] != want) {
				b.Fatalf("%s is %s %v, want %s", tc.name, code, answers, want)
			}
			before := used(b)
			began := time.Now()
			client := exec.Command(os.Args[0], "-test.run=^TestAskMany$")
			client.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", askMany, s.Endpoint(), tc.name, b.N))
			if out, err := client.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "queries/s")
			b.ReportMetric(float64(b.N)/(used(b)-before).Seconds(), "queries/cpu-s")
		})
	}
}

// used is the processor time of this process.
func used(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// outside is a name server of its own that knows one address for all names.
func outside(t testing.TB) (address string) {
	pid := os.Getpid()
	c, err := net.ListenPacket("udp4", fmt.Sprintf("127.78.%d.%d:53", pid>>8&255, pid&255))
	if err != nil {
		t.Skip("needs a port 53: ", err)
	}
	started := make(chan struct{})
	server := &mdns.Server{PacketConn: c, NotifyStartedFunc: func() { close(started) }, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, m *mdns.Msg) {
		r := new(mdns.Msg).SetReply(m)
		r.Answer = []mdns.RR{&mdns.A{Hdr: mdns.RR_Header{Name: m.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 300}, A: net.IPv4(192, 0, 2, 1)}}
		_ = w.WriteMsg(r) // who asked may be gone
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return strings.TrimSuffix(c.LocalAddr().String(), ":53")
}

// askMany tells the test binary to be the client: server, name and number.
const askMany = "SKIFF_DNS_ASK"

// askers ask side by side, each its next question after an answer.
const askers = 16

func TestAskMany(t *testing.T) {
	var server, name string
	var n int
	if _, err := fmt.Sscan(os.Getenv(askMany), &server, &name, &n); err != nil {
		t.Skip("is the client of BenchmarkQueries")
	}
	query, err := new(mdns.Msg).SetQuestion(name, mdns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range askers {
		all.Go(func() {
			c, err := net.Dial("udp", server)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			answer := make([]byte, 1232)
			for range (n + i) / askers {
				if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Write(query); err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Read(answer); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
