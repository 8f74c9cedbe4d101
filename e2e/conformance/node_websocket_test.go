package conformance

import (
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"golang.org/x/net/websocket"
)

// nodeWebSocket opens a WebSocket to a subresource of a pod with one protocol.
func nodeWebSocket(s *space, protocol, subresource string, opts *corev1.PodExecOptions) *websocket.Conn {
	s.t.Helper()
	req := s.client.CoreV1().RESTClient().Get().Resource("pods").Namespace(s.name).Name("pod").SubResource(subresource)
	if opts != nil {
		req = req.VersionedParams(opts, scheme.ParameterCodec)
	} else {
		req = req.Param("container", "main")
	}
	url := req.URL()
	url.Scheme = "wss"
	config, err := websocket.NewConfig(url.String(), "http://localhost")
	s.must(err)
	config.Protocol = []string{protocol}
	tlsConfig, err := rest.TLSConfigFor(s.config)
	s.must(err)
	config.TlsConfig = tlsConfig
	conn, err := websocket.DialConfig(config)
	s.must(err)
	s.t.Cleanup(func() { _ = conn.Close() }) // the server may have
	return conn
}

// Conformance: [sig-node] Pods should support remote command execution over websockets
func TestNodeWebSocketExec(t *testing.T) {
	for _, protocol := range []string{"channel.k8s.io", "v4.channel.k8s.io"} {
		t.Run(strings.ReplaceAll(protocol, ".", "-"), func(t *testing.T) {
			s := parallel(t)
			s.ready(probePod("pod", "serve"))
			conn := nodeWebSocket(s, protocol, "exec", &corev1.PodExecOptions{Container: "main", Command: []string{"/probe", "echo", "remote execution test"}, Stdout: true, Stderr: true})
			var out strings.Builder
			for {
				var message []byte
				err := websocket.Message.Receive(conn, &message)
				if err == io.EOF {
					break
				}
				s.must(err)
				if len(message) > 1 && message[0] == 1 {
					out.Write(message[1:])
				}
			}
			if out.String() != "remote execution test\n" {
				t.Errorf("the command wrote %q", out.String())
			}
		})
	}
}

// Conformance: [sig-node] Pods should support retrieving logs from the container over websockets
func TestNodeWebSocketLogs(t *testing.T) {
	s := parallel(t)
	s.ready(shellPod("pod", "echo container is alive; sleep 3600"))
	conn := nodeWebSocket(s, "binary.k8s.io", "log", nil)
	var out strings.Builder
	for {
		var message []byte
		err := websocket.Message.Receive(conn, &message)
		if err == io.EOF {
			break
		}
		s.must(err)
		out.Write(message)
	}
	if out.String() != "container is alive\n" {
		t.Errorf("the log is %q", out.String())
	}
}
