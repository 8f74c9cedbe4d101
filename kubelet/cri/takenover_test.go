package cri

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// The connection of a client that opens no streams ends with the patience for them,
// also where the client has closed its half of it or says what is not understood.
//
// Covers: api.streams
func TestSilentSessionEnds(t *testing.T) {
	const synStream = "\x80\x03\x00\x01\x01\x00\x00\x0a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	s := httptest.NewServer(endingTaken(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remotecommand.ServeExec(w, r, nil, "", "", "c", []string{"x"}, &remotecommand.Options{Stdout: true}, time.Hour, 10*time.Millisecond, remotecommand.SupportedStreamingProtocols)
	}), time.Millisecond))
	t.Cleanup(s.Close)
	for name, tc := range map[string]struct {
		said string
		half bool
	}{
		"nothing": {}, "nothing, half closed": {half: true}, "one stream, half closed": {synStream, true}, "another version": {"\x80\x02\x00\x01\x00\xff\xff\xff", true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n%s", tc.said); err != nil {
				t.Fatal(err)
			}
			if tc.half {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the session goes on")
			}
		})
	}
}
