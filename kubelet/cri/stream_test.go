package cri_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestStreams(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("streams")
	id := n.run(sb, scfg, "main", []string{"serve", "8080"})
	n.logged(id, "serving")
	// The kubelet serves streams itself; so does this server.
	server := httptest.NewServer(n.StreamingHandler())
	t.Cleanup(server.Close)
	at := func(raw string) *url.URL {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = strings.TrimPrefix(server.URL, "http://")
		return u
	}
	for _, tc := range []struct {
		name string
		tty  bool
		want string
	}{{"with pipes", false, "to be copied\n"}, {"with a terminal", true, "xterm\r\n"}} {
		t.Run("exec "+tc.name, func(t *testing.T) {
			req := &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"/probe", "copy"}, Stdin: true, Stdout: true, Stderr: !tc.tty, Tty: tc.tty}
			if tc.tty {
				req.Cmd, req.Stdin = []string{"/probe", "env", "TERM"}, false
			}
			resp, err := n.Exec(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			ex, err := remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, at(resp.Url))
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			opts := remotecommand.StreamOptions{Stdout: &out, Tty: tc.tty}
			if req.Stdin {
				opts.Stdin, opts.Stderr = strings.NewReader("to be copied\n"), io.Discard
			}
			if err := ex.StreamWithContext(t.Context(), opts); err != nil || out.String() != tc.want {
				t.Errorf("got %q, %v", out.String(), err)
			}
		})
	}
	t.Run("exit code", func(t *testing.T) {
		resp, err := n.Exec(t.Context(), &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"/probe", "exit", "9"}, Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		ex, err := remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, at(resp.Url))
		if err != nil {
			t.Fatal(err)
		}
		err = ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "exit code 9") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("attach", func(t *testing.T) {
		copier := n.run(sb, scfg, "copier", []string{"copy"}, func(c *runtimeapi.ContainerConfig) { c.Stdin, c.StdinOnce = true, true })
		resp, err := n.Attach(t.Context(), &runtimeapi.AttachRequest{ContainerId: copier, Stdin: true, Stdout: true, Stderr: true})
		if err != nil {
			t.Fatal(err)
		}
		ex, err := remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, at(resp.Url))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = ex.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello\n"), Stdout: &out, Stderr: io.Discard})
		if err != nil || out.String() != "hello\n" {
			t.Errorf("got %q, %v", out.String(), err)
		}
		n.await(copier, exited)
		n.logged(copier, "stdout F hello")
	})
	t.Run("port forward", func(t *testing.T) {
		resp, err := n.PortForward(t.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: sb, Port: []int32{8080}})
		if err != nil {
			t.Fatal(err)
		}
		rt, up, err := spdy.RoundTripperFor(&rest.Config{})
		if err != nil {
			t.Fatal(err)
		}
		stop, ready := make(chan struct{}), make(chan struct{})
		fw, err := portforward.New(spdy.NewDialer(up, &http.Client{Transport: rt}, http.MethodPost, at(resp.Url)), []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- fw.ForwardPorts() }()
		select {
		case <-ready:
		case err := <-done:
			t.Fatal(err)
		}
		ports, err := fw.GetPorts()
		if err != nil {
			t.Fatal(err)
		}
		out, err := http.Get("http://127.0.0.1:" + port(ports[0].Local))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(out.Body)
		out.Body.Close()
		if string(body) != "streams from 127.0.0.1" {
			t.Errorf("got %q", body)
		}
		close(stop)
		<-done
	})
	t.Run("socket", func(t *testing.T) {
		conn, err := grpc.NewClient("unix://"+n.cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		resp, err := runtimeapi.NewRuntimeServiceClient(conn).ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id[:12], Cmd: []string{"/probe", "exit", "4"}})
		if err != nil || resp.ExitCode != 4 {
			t.Errorf("got %v, %v", resp, err)
		}
		list, err := runtimeapi.NewImageServiceClient(conn).ListImages(t.Context(), &runtimeapi.ListImagesRequest{})
		if err != nil || len(list.Images) != 1 {
			t.Errorf("got %v, %v", list, err)
		}
	})
}
