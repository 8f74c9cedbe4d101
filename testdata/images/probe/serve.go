package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"skiff/testdata/images/reach"
)

// server answers over HTTP, UDP and TCP.
type server struct {
	page    string
	started time.Time
	delay   time.Duration
	sicken  time.Duration
	healthy atomic.Bool
	ready   atomic.Bool
}

func serve(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	httpAddr := f.String("http", ":8080", "where HTTP is served")
	udpAddr := f.String("udp", ":8081", "where UDP is echoed; empty for nowhere")
	tcpAddr := f.String("tcp", ":8082", "where TCP is echoed; empty for nowhere")
	httpsAddr := f.String("https", "", "where HTTPS is served, with a certificate of its own; empty for nowhere")
	grpcAddr := f.String("grpc", "", "where gRPC health checks are answered; empty for nowhere")
	page := f.String("page", "", "what / answers; empty for the host name")
	delay := f.Duration("ready-after", 0, "how long /readyz fails at first")
	sicken := f.Duration("unhealthy-after", 0, "when /healthz begins to fail; 0 for never")
	linger := f.Duration("linger", 0, "how long to serve on after SIGTERM")
	if err := f.Parse(args); err != nil {
		return err
	}
	s := &server{page: *page, started: time.Now(), delay: *delay, sicken: *sicken}
	s.healthy.Store(true)
	s.ready.Store(true)
	failed := make(chan error, 5)
	if *udpAddr != "" {
		c, err := net.ListenPacket("udp", *udpAddr)
		if err != nil {
			return err
		}
		go func() { failed <- echoPackets(c) }()
	}
	if *tcpAddr != "" {
		l, err := net.Listen("tcp", *tcpAddr)
		if err != nil {
			return err
		}
		go func() { failed <- echoStreams(l) }()
	}
	if *httpsAddr != "" {
		secure, err := secureServer(*httpsAddr, s.routes())
		if err != nil {
			return err
		}
		go func() { failed <- secure.ListenAndServeTLS("", "") }()
	}
	if *grpcAddr != "" {
		go func() { failed <- healthServer(*grpcAddr, &s.healthy).ListenAndServe() }()
	}
	h := &http.Server{Addr: *httpAddr, Handler: s.routes()}
	go func() { failed <- h.ListenAndServe() }()
	fmt.Println("probe: serving on", *httpAddr)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Println("probe: terminating")
	select {
	case err := <-failed:
		return err
	case <-time.After(*linger):
	}
	end, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return h.Shutdown(end)
}

func (s *server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		if s.page != "" {
			io.WriteString(w, s.page)
			return
		}
		hostname(w)
	})
	// What else comes to / and all below /echo/ is told what it asked.
	m.HandleFunc("/{$}", echoRequest)
	m.HandleFunc("/echo/", echoRequest)
	m.HandleFunc("GET /hostname", func(w http.ResponseWriter, _ *http.Request) { hostname(w) })
	m.HandleFunc("GET /client", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.RemoteAddr) })
	m.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, who(r.RemoteAddr)) })
	m.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, strings.Join(os.Environ(), "\n")) })
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		state(w, s.healthy.Load() && (s.sicken == 0 || time.Since(s.started) < s.sicken))
	})
	// What was asked under /hook/ is in the log, with its headers.
	m.HandleFunc("/hook/", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println("probe: hook", r.Method, r.URL.Path, r.Header.Get("X-Hook"))
	})
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		state(w, s.ready.Load() && time.Since(s.started) >= s.delay)
	})
	// POST /healthz?ok=false makes the probe of that name fail from then on.
	m.HandleFunc("POST /healthz", func(w http.ResponseWriter, r *http.Request) { set(w, r, &s.healthy) })
	m.HandleFunc("POST /readyz", func(w http.ResponseWriter, r *http.Request) { set(w, r, &s.ready) })
	m.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.FormValue("code"))
		if err != nil {
			code = 1
		}
		fmt.Println("probe: asked to exit with", code)
		os.Exit(code)
	})
	m.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		b, err := os.ReadFile(r.FormValue("path"))
		answer(w, string(b), err)
	})
	m.HandleFunc("PUT /file", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil {
			err = os.WriteFile(r.FormValue("path"), b, 0o644)
		}
		answer(w, "", err)
	})
	m.HandleFunc("GET /lookup", func(w http.ResponseWriter, r *http.Request) {
		addrs, err := net.DefaultResolver.LookupHost(r.Context(), r.FormValue("name"))
		answer(w, strings.Join(addrs, "\n")+"\n", err)
	})
	m.HandleFunc("GET /get", func(w http.ResponseWriter, r *http.Request) {
		body, err := get(r.Context(), r.FormValue("url"))
		answer(w, body, err)
	})
	return m
}

// echoRequest answers with the method, path, query and body as JSON.
func echoRequest(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Method", r.Method)
	_ = json.NewEncoder(w).Encode(map[string]string{"method": r.Method, "path": r.URL.Path, "query": r.URL.RawQuery, "body": string(body)}) // it has hung up
}

func hostname(w io.Writer) {
	name, err := os.Hostname()
	if err != nil {
		name = err.Error()
	}
	fmt.Fprintln(w, name)
}

// who is this server, and who asks it.
func who(from string) string {
	name, err := os.Hostname()
	if err != nil {
		name = err.Error()
	}
	return reach.Answer(name, from)
}

func state(w http.ResponseWriter, ok bool) {
	if !ok {
		http.Error(w, "not ok", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func set(w http.ResponseWriter, r *http.Request, what *atomic.Bool) {
	ok, err := strconv.ParseBool(r.FormValue("ok"))
	if err != nil {
		http.Error(w, "ok: want true or false", http.StatusBadRequest)
		return
	}
	what.Store(ok)
	fmt.Fprintln(w, ok)
}

func answer(w http.ResponseWriter, body string, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	io.WriteString(w, body)
}

func echoPackets(c net.PacketConn) error {
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		answer := b[:n]
		switch string(answer) { // as the paths of these names over HTTP
		case "hostname":
			var name bytes.Buffer
			hostname(&name)
			answer = name.Bytes()
		case "who":
			answer = []byte(who(from.String()))
		}
		if _, err := c.WriteTo(answer, from); err != nil && !errors.Is(err, net.ErrClosed) {
			fmt.Println("probe: udp:", err)
		}
	}
}

func echoStreams(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			if _, err := io.Copy(c, c); err != nil {
				fmt.Println("probe: tcp:", err)
			}
		}()
	}
}
