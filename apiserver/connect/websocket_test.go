package connect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	forwarding "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	clientexec "k8s.io/client-go/util/exec"
	kubeletforward "k8s.io/cri-streaming/pkg/streaming/portforward"
	kubeletcommand "k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// node is a kubelet's real streaming server over containers that are functions.
type node struct {
	ended chan struct{} // closed when a session was told that it is over
	// patience is how long it waits for a client's streams; a minute where 0.
	patience time.Duration
}

// ExecInContainer implements remotecommand.Executor.
func (n *node) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errs io.WriteCloser, _ bool, resize <-chan kubeletcommand.TerminalSize, _ time.Duration) error {
	switch cmd[0] {
	case "count":
		b, err := io.ReadAll(in) // ends when the client half-closes
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d bytes", len(b))
		fmt.Fprint(errs, "counted")
	case "exit":
		return utilexec.CodeExitError{Err: errors.New("exit status 7"), Code: 7}
	case "break":
		return errors.New("broken container")
	case "size":
		s := <-resize
		fmt.Fprintf(out, "%dx%d", s.Width, s.Height)
	case "wait":
		fmt.Fprint(out, "waiting")
		_, _ = io.Copy(io.Discard, in)
		close(n.ended)
	}
	return nil
}

// PortForward implements portforward.PortForwarder.
func (n *node) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	b := make([]byte, 5)
	if _, err := io.ReadFull(stream, b); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stream, "port %d heard %s", port, b)
	return errors.Join(err, stream.Close())
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/exec":
		opts, err := kubeletcommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		kubeletcommand.ServeExec(w, r, n, "pod", "", "c", r.URL.Query()["command"], opts, time.Minute, n.patient(), kubeletcommand.SupportedStreamingProtocols)
	case "/portForward":
		kubeletforward.ServePortForward(w, r, n, "pod", "", &kubeletforward.V4Options{}, time.Minute, time.Minute, kubeletforward.SupportedProtocols)
	default:
		http.Error(w, "container not found", http.StatusNotFound)
	}
}

// socketFront serves the streams of n as this server's.
func socketFront(t testing.TB, n *node) *httptest.Server {
	t.Helper()
	backend := httptest.NewTLSServer(n)
	t.Cleanup(backend.Close)
	base, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := &connectors{Config{Dialer: &Dialer{}}}
	t.Cleanup(c.Dialer.Close)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := *base
		to.Path = r.URL.Path
		if len(tunnelled(r)) > 0 {
			c.tunnel(w, r, &to)
			return
		}
		q := streamQuery(r.URL.Query())
		q["command"] = r.URL.Query()["command"]
		to.RawQuery = q.Encode()
		c.translate(w, r, &to)
	}))
	t.Cleanup(s.Close)
	return s
}

func session(t *testing.T, s *httptest.Server, path string, o *corev1.PodExecOptions) remotecommand.Executor {
	t.Helper()
	q := url.Values{"command": o.Command}
	for name, on := range map[string]bool{"stdin": o.Stdin, "stdout": o.Stdout, "stderr": o.Stderr, "tty": o.TTY} {
		if on {
			q.Set(name, "true")
		}
	}
	e, err := remotecommand.NewWebSocketExecutor(&rest.Config{Host: s.URL}, http.MethodGet, s.URL+path+"?"+q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestExecOverWebSocket(t *testing.T) {
	s := socketFront(t, &node{})
	for name, tc := range map[string]struct {
		path     string
		command  string
		in       io.Reader
		tty      bool
		out, err string
		fails    string
		code     int
	}{
		"stdin is half-closed": {command: "count", in: strings.NewReader(strings.Repeat("x", 100_000)), out: "100000 bytes", err: "counted"},
		"exit code":            {command: "exit", fails: "command terminated with exit code 7", code: 7},
		"failure":              {command: "break", fails: "Internal error occurred: error executing command in container: broken container"},
		"terminal size":        {command: "size", tty: true, out: "80x25"},
		"refusal":              {path: "/nowhere", command: "count", fails: "unable to upgrade connection: container not found"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			path := tc.path
			if path == "" {
				path = "/exec"
			}
			o := remotecommand.StreamOptions{Stdin: tc.in, Stdout: &out, Tty: tc.tty}
			if tc.tty {
				o.TerminalSizeQueue = oneSize{make(chan struct{}, 1)}
			} else {
				o.Stderr = &errs
			}
			e := session(t, s, path, &corev1.PodExecOptions{Command: []string{tc.command}, Stdin: tc.in != nil, Stdout: true, Stderr: !tc.tty, TTY: tc.tty})
			err := e.StreamWithContext(t.Context(), o)
			if (err == nil) != (tc.fails == "") || err != nil && (!strings.Contains(err.Error(), tc.fails) || strings.Count(err.Error(), internalPrefix) > 1) {
				t.Fatalf("error %v, want %q", err, tc.fails)
			}
			var exit clientexec.CodeExitError
			if errors.As(err, &exit) != (tc.code != 0) || exit.Code != tc.code {
				t.Errorf("exit code of %v, want %d", err, tc.code)
			}
			if d := cmp.Diff([]string{tc.out, tc.err}, []string{out.String(), errs.String()}); d != "" {
				t.Errorf("output (-want +got):\n%s", d)
			}
		})
	}
}

// oneSize tells one size, then none.
type oneSize struct{ told chan struct{} }

// Next implements remotecommand.TerminalSizeQueue.
func (o oneSize) Next() *remotecommand.TerminalSize {
	select {
	case o.told <- struct{}{}:
		return &remotecommand.TerminalSize{Width: 80, Height: 25}
	default:
		return nil
	}
}

func TestClientOfWebSocketLeaves(t *testing.T) {
	n := &node{ended: make(chan struct{})}
	s := socketFront(t, n)
	ctx, leave := context.WithCancel(t.Context())
	hold, _ := io.Pipe() // says nothing
	t.Cleanup(func() { hold.Close() })
	e := session(t, s, "/exec", &corev1.PodExecOptions{Command: []string{"wait"}, Stdin: true, Stdout: true})
	err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: hold, Stdout: writerFunc(leave)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the session ended with %v", err)
	}
	select {
	case <-n.ended: // the kubelet's side ends with the client's
	case <-time.After(10 * time.Second):
		t.Error("the session at the kubelet goes on without its client")
	}
}

type writerFunc func()

// Write implements io.Writer.
func (f writerFunc) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

func TestPortForwardOverWebSocket(t *testing.T) {
	s := socketFront(t, &node{})
	dial := func(path string) (*portforward.PortForwarder, chan struct{}, chan struct{}) {
		u, err := url.Parse(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		d, err := portforward.NewSPDYOverWebsocketDialerForStreaming(u, &rest.Config{Host: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		stop, ready := make(chan struct{}), make(chan struct{})
		f, err := portforward.NewForStreaming(d, []string{"0:80"}, stop, ready, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return f, stop, ready
	}
	f, stop, ready := dial("/portForward")
	done := make(chan error, 1)
	go func() { done <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	if got := say(t, fmt.Sprintf("127.0.0.1:%d", ports[0].Local), "hello"); got != "port 80 heard hello" {
		t.Errorf("the pod said %q", got)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}

	f, _, _ = dial("/nowhere")
	if err := f.ForwardPorts(); err == nil || !strings.Contains(err.Error(), "container not found") {
		t.Errorf("a refused forward ended with %v", err)
	}
	if d := cmp.Diff([]string{"portforward.k8s.io"}, tunnelled(&http.Request{Header: http.Header{
		"Sec-Websocket-Protocol": {forwarding.WebsocketsSPDYTunnelingPortForwardV1 + ", v4.channel.k8s.io"},
	}})); d != "" {
		t.Errorf("tunnelled protocols (-want +got):\n%s", d)
	}
}

func (n *node) patient() time.Duration {
	if n.patience == 0 {
		return time.Minute
	}
	return n.patience
}
