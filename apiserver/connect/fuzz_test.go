package connect

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	protocol "k8s.io/apimachinery/pkg/util/remotecommand"
)

// upgraded opens a session on a connection of its own, whose bytes the test
// writes itself.
func upgraded(t *testing.T, s *httptest.Server, method, path string, headers ...string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := conn.(*net.TCPConn)
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n%s\r\n\r\n", method, path, strings.Join(headers, "\r\n")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the upgrade is answered with %v, %v", resp, err)
	}
	return c
}

// spoken sends what the client says and hangs up; the other side has to as well.
func spoken(t *testing.T, c *net.TCPConn, b []byte) {
	t.Helper()
	// The other side may have ended the session before all was sent.
	_, _ = c.Write(b)
	_ = c.CloseWrite()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the session of a client that has hung up goes on")
	}
}

// masked is a message of a WebSocket in one frame, as clients send it.
func masked(opcode byte, payload string) string {
	head := []byte{0x80 | opcode}
	if n := len(payload); n < 126 {
		head = append(head, 0x80|byte(n))
	} else {
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	}
	return string(head) + "\x00\x00\x00\x00" + payload
}

// FuzzSocketFrames: whatever comes in the frames of a session, the session ends
// with its client.
func FuzzSocketFrames(f *testing.F) {
	const stdin, resize, end, binaryFrame = "\x00", "\x04", "\xff", 2
	for _, seed := range []string{
		masked(binaryFrame, stdin+"hello") + masked(binaryFrame, end+stdin),
		masked(binaryFrame, resize+`{"Width":80,"Height":25}`),
		masked(binaryFrame, resize+`{"Width":-1,"Height":1e99}`) + masked(1, "text"),
		masked(binaryFrame, "") + masked(binaryFrame, "\x07beyond") + masked(binaryFrame, end) + masked(binaryFrame, end+"\x63"),
		masked(9, "ping") + masked(8, "\x03\xe8bye"),
		masked(binaryFrame, stdin+strings.Repeat("x", 60000)),
		"\x82\x05hello", // not masked
		"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", // longer than there is memory
		"\x02\x80\x00\x00\x00\x00\x00\x80",         // a message that goes on
		"\xff\xff\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	s := socketFront(f, &node{ended: make(chan struct{})})
	key := base64.StdEncoding.EncodeToString([]byte("sixteen bytes are"[:16]))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := upgraded(t, s, http.MethodGet, "/exec?command=count&stdin=true&stdout=true&stderr=true",
			"Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: "+key, "Sec-WebSocket-Protocol: "+protocol.StreamProtocolV5Name)
		spoken(t, c, b)
	})
}

// FuzzSPDYFrames: whatever comes in the frames of SPDY, the server goes on
// answering others.
func FuzzSPDYFrames(f *testing.F) {
	const (
		synStream = "\x80\x03\x00\x01\x01\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"
		ping      = "\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"
		goAway    = "\x80\x03\x00\x07\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00"
		reset     = "\x80\x03\x00\x03\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00\x05"
		data      = "\x00\x00\x00\x01\x01\x00\x00\x05hello"
		settings  = "\x80\x03\x00\x04\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01"
		window    = "\x80\x03\x00\x09\x00\x00\x00\x08\x00\x00\x00\x01\x7f\xff\xff\xff"
	)
	for _, seed := range []string{
		ping + ping, synStream + data, reset + goAway, settings + window + window,
		"\x80\x03\x00\x04\x00\x00\x00\x04\xff\xff\xff\xff", // more settings than bytes
		"\x80\x02\x00\x01\x00\xff\xff\xff", "\x80\x03\xff\xff\x00\x00\x00\x00", "\x00\x00\x00\x01\xff\xff\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	s := httptest.NewServer(&node{ended: make(chan struct{}), patience: 100 * time.Millisecond})
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, b []byte) {
		c := upgraded(t, s, http.MethodPost, "/exec?command=count&input=1&output=1&error=1", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: "+protocol.StreamProtocolV4Name)
		_, _ = c.Write(b) // the server may have ended the session before all was sent
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		resp, err := http.Get(s.URL + "/nowhere")
		if err != nil {
			t.Fatalf("the server does not go on: %v", err)
		}
		resp.Body.Close()
	})
}
