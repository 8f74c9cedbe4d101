package apiserver_test

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"k8s.io/client-go/rest"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
)

// A client that opens streams and resets them at once, without end, has its
// connection ended; others are served meanwhile (CVE-2023-44487). The number of
// streams that a connection may have open is announced and bounded.
//
// Covers: api.bad-input
func TestRapidReset(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	conn, framer, settings := connect(t, s)
	if n, ok := settings.Value(http2.SettingMaxConcurrentStreams); !ok || n == 0 || n > 250 {
		t.Errorf("%d streams at once", n)
	}
	headers := request(t, "GET", "/api/v1/pods?watch=1")
	ended := make(chan error, 1)
	go func() {
		for {
			f, err := framer.ReadFrame()
			if err == nil {
				if away, ok := f.(*http2.GoAwayFrame); ok && away.ErrCode != http2.ErrCodeNo {
					err = http2.ConnectionError(away.ErrCode)
				}
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	sent := 0
	for id := uint32(1); sent < 200000; id += 2 {
		err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: headers, EndHeaders: true, EndStream: true})
		if err == nil {
			err = framer.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			break // the server has ended it
		}
		sent++
		if len(ended) > 0 {
			break
		}
	}
	if sent == 200000 {
		t.Error("the connection lives on after 200000 resets")
	}
	conn.Close()
	if a := s.Call(t, "GET", "/readyz", ""); a.Code != 200 {
		t.Errorf("others get %d %s", a.Code, a.Body)
	}
}

// connect speaks HTTP/2 as the administrator, up to the server's settings.
func connect(t *testing.T, s *apiservertest.Server) (*tls.Conn, *http2.Framer, *http2.SettingsFrame) {
	t.Helper()
	conf, err := rest.TLSConfigFor(s.Admin)
	if err != nil {
		t.Fatal(err)
	}
	conf.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.Host, "https://"), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	f, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := f.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("the first frame is %v", f)
	}
	return conn, framer, settings
}

func request(t *testing.T, method, path string) []byte {
	t.Helper()
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range [][2]string{{":method", method}, {":path", path}, {":scheme", "https"}, {":authority", "x"}} {
		if err := e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// With a chance of GOAWAY clients of HTTP/2 are told to connect again, in time and
// without losing a request.
func TestGoawayChance(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, func(c *apiserver.Config) { c.GoawayChance = 0.02 })
	conn, framer, _ := connect(t, s)
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettingsAck(); err != nil {
		t.Fatal(err)
	}
	decoder := hpack.NewDecoder(4096, nil)
	away := false
	// Two hundredths of as many requests: that none is told has a chance of 1e-17.
	for id := uint32(1); id < 4000 && !away; id += 2 {
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: request(t, "GET", "/version"), EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
		answered := false
		for !answered {
			f, err := framer.ReadFrame()
			if err != nil {
				t.Fatalf("request %d was lost: %v", id, err)
			}
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				away = true
				if f.ErrCode != http2.ErrCodeNo {
					t.Errorf("sent away for %v", f.ErrCode)
				}
			case *http2.HeadersFrame:
				if _, err := decoder.DecodeFull(f.HeaderBlockFragment()); err != nil {
					t.Fatal(err)
				}
				answered = f.StreamEnded()
			case *http2.DataFrame:
				answered = f.StreamEnded()
			}
		}
	}
	if !away {
		t.Error("nobody was sent away")
	}
	if _, err := apiserver.New(apiserver.Config{GoawayChance: 0.5}); err == nil || !strings.Contains(err.Error(), "--goaway-chance can not be less than 0 or greater than 0.02") {
		t.Errorf("half of the requests: %v", err)
	}
}
