package apiserver_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
)

// patient is how long the tests wait for a server that is to act within seconds.
const patient = time.Minute

// impatient makes a server that waits for no client for long.
func impatient(c *apiserver.Config) {
	c.StalledClient, c.HeaderTimeout, c.RequestTimeout = 5*time.Second, 3*time.Second, 3*time.Second
}

// dial opens a connection as the admin. What a test does on it ends in time.
func dial(t *testing.T, s *apiservertest.Server, protocol string) net.Conn {
	t.Helper()
	cfg, err := rest.TLSConfigFor(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	cfg.NextProtos, cfg.ServerName = []string{protocol}, "127.0.0.1"
	raw, err := net.Dial("tcp", strings.TrimPrefix(s.Host, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	// As little as there may be of what the kernel takes in the client's place.
	_ = raw.(*net.TCPConn).SetReadBuffer(4 << 10)
	c := tls.Client(raw, cfg)
	t.Cleanup(func() { raw.Close() })
	if err := c.SetDeadline(time.Now().Add(patient)); err != nil {
		t.Fatal(err)
	}
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// closed reads until the server ends the connection, and gives what came.
func closed(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is still open; it said %q", b)
	}
	return string(b)
}

// alive tells whether the server still answers others.
func alive(t *testing.T, s *apiservertest.Server) {
	t.Helper()
	if a := s.Call(t, "GET", "/api/v1/namespaces/default", ""); a.Code != 200 {
		t.Errorf("the server answers others with %d %s", a.Code, a.Body)
	}
}

// Clients that send slowly, or begin what they do not end, are cut off.
//
// Covers: api.bad-input
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, impatient)
	for _, tc := range []struct{ name, sent, answer string }{
		{"a header without an end", "GET /api HTTP/1.1\r\nHost: a\r\nX-A: ", ""},
		{"nothing at all", "", ""},
		{"a body that does not come", "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{\"meta", "HTTP/1.1 "},
		{"a chunk that does not end", "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n10\r\n{\"a\":", "HTTP/1.1 "},
		{"a giant header", "GET /api HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("a", 2<<20) + "\r\n\r\n", "HTTP/1.1 431 "},
		{"very many headers", "GET /api HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-Many-Of-Them: some value or other\r\n", 40000) + "\r\n", "HTTP/1.1 431 "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, s, "http/1.1")
			// The server may answer and close before all of it was sent.
			_, _ = io.WriteString(c, tc.sent)
			got := closed(t, c)
			if !strings.HasPrefix(got, tc.answer) || strings.HasPrefix(got, "HTTP/1.1 2") {
				t.Errorf("the server said %.200q, want %q", got, tc.answer)
			}
			alive(t, s)
		})
	}
}

// stalled opens a watch and never reads what it says.
func stalled(t *testing.T, s *apiservertest.Server) net.Conn {
	t.Helper()
	c := dial(t, s, "http/1.1")
	if _, err := io.WriteString(c, "GET /api/v1/namespaces/default/configmaps?watch=true&labelSelector=noise HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReaderSize(c, 16).ReadString('\n')
	if err != nil || !strings.Contains(line, " 200 ") {
		t.Fatalf("the watch begins with %q, %v", line, err)
	}
	return c
}

// Watchers that never read do not hold up those that do, are cut off, and cost
// the server what the kernel takes and no more.
//
// Covers: api.bad-input
func TestWatchersThatNeverRead(t *testing.T) { // alone: goroutines are counted
	count := 1000
	if testing.Short() {
		count = 50
	}
	s := apiservertest.Start(t, impatient)
	ctx := t.Context()
	before := goroutinesAt("handlers.(*API).pump")
	conns := make([]net.Conn, count)
	for i := range conns {
		conns[i] = stalled(t, s)
	}
	maps := s.Client.CoreV1().ConfigMaps("default")
	good, err := maps.Watch(ctx, metav1.ListOptions{LabelSelector: "noise"})
	if err != nil {
		t.Fatal(err)
	}
	defer good.Stop()
	noise := strings.Repeat("x", 256<<10)
	const writes = 40
	for i := range writes {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("noise-%d", i), Labels: map[string]string{"noise": ""}}, Data: map[string]string{"k": noise}}
		if _, err := maps.Create(ctx, m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range writes {
		select {
		case e := <-good.ResultChan():
			if m, ok := e.Object.(*corev1.ConfigMap); !ok || m.Name != fmt.Sprintf("noise-%d", i) {
				t.Fatalf("event %d is %v of %T", i, e.Type, e.Object)
			}
		case <-time.After(patient):
			t.Fatalf("a watcher that reads got %d of %d events", i, writes)
		}
	}
	// The one that reads, and the server's own, are left.
	within(t, "the watchers that never read are cut off", func() bool { return goroutinesAt("handlers.(*API).pump") <= before+2 })
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	// Each of them was to get ten MiB.
	if m.HeapAlloc > 1<<30 {
		t.Errorf("the heap holds %d MiB after %d watchers that never read", m.HeapAlloc>>20, count)
	}
	alive(t, s)
}

// goroutinesAt counts the goroutines that are in a function.
func goroutinesAt(name string) int {
	b := make([]byte, 64<<20)
	return bytes.Count(b[:runtime.Stack(b, true)], []byte(name+"("))
}

// framed is a connection of HTTP/2 whose frames the test writes itself.
func framed(t *testing.T, s *apiservertest.Server) (net.Conn, *http2.Framer, func(path string) []byte) {
	t.Helper()
	c := dial(t, s, "h2")
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	return c, f, func(path string) []byte {
		buf.Reset()
		for _, h := range [][2]string{{":method", "GET"}, {":path", path}, {":scheme", "https"}, {":authority", "a"}} {
			if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
				t.Fatal(err)
			}
		}
		return buf.Bytes()
	}
}

// A client that is gone without a word is noticed: it answers no ping.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, impatient)
	c, f, header := framed(t, s)
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header("/api/v1/configmaps?watch=true"), EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
	closed(t, c)
	alive(t, s)
}

// A client that opens streams without end, and one that opens and resets them
// (CVE-2023-44487), get no more of the server than it gives at once.
func TestStreamsWithoutEnd(t *testing.T) { // alone: goroutines are counted
	s := apiservertest.Start(t, nil)
	for _, reset := range []bool{false, true} {
		t.Run(fmt.Sprintf("reset %t", reset), func(t *testing.T) {
			before := goroutinesAt("handlers.(*API).pump")
			c, f, header := framed(t, s)
			ended := make(chan string, 1)
			go func() { // takes what the server says, so that it never waits for us
				b, _ := io.ReadAll(c)
				ended <- string(b)
			}()
			most := 0
			for i := range 20000 {
				id := uint32(2*i + 1)
				err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: header("/api/v1/configmaps?watch=true"), EndHeaders: true, EndStream: true})
				if err == nil && reset {
					err = f.WriteRSTStream(id, http2.ErrCodeCancel)
				}
				if err != nil {
					break // the server has had enough
				}
				if i%5000 == 0 {
					most = max(most, goroutinesAt("handlers.(*API).pump")-before)
				}
			}
			most = max(most, goroutinesAt("handlers.(*API).pump")-before)
			if most > 250 {
				t.Errorf("%d watches at once on one connection, want at most 250", most)
			}
			alive(t, s)
			c.Close()
			<-ended
			within(t, "what the client left is given up", func() bool { return goroutinesAt("handlers.(*API).pump") <= before })
		})
	}
}

// Headers of HTTP/2 that grow out of a few bytes (a HPACK bomb) are refused.
func TestGiantHeadersOfHTTP2(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, impatient)
	client := &http.Client{Transport: &http2.Transport{TLSClientConfig: tlsOf(t, s), MaxHeaderListSize: 64 << 20}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.Host+"/api", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 600 {
		req.Header.Set(fmt.Sprintf("X-A-%d", i), strings.Repeat("a", 4<<10))
	}
	resp, err := client.Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %d, want 431", resp.StatusCode)
		}
	}
	alive(t, s)
}

func tlsOf(t *testing.T, s *apiservertest.Server) *tls.Config {
	t.Helper()
	cfg, err := rest.TLSConfigFor(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
