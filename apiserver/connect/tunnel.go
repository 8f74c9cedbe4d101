package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/websocket"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	forwarding "k8s.io/apimachinery/pkg/util/portforward"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"skiff/apiserver/handlers"
)

// tunnel carries a SPDY connection between the client and the kubelet in the
// messages of a WebSocket. The client's side is upgraded only after the kubelet's,
// so that a refusal is an answer.
func (c *connectors) tunnel(w http.ResponseWriter, r *http.Request, to *url.URL) {
	backend, chosen, err := c.dialSPDY(r.Context(), to, tunnelled(r))
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	defer backend.Close()
	upgrader := websocket.Upgrader{
		// A browser's page cannot have the credentials that brought the request here.
		CheckOrigin:  func(*http.Request) bool { return true },
		Subprotocols: []string{forwarding.WebsocketsSPDYTunnelingPrefix + chosen},
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	client := portforward.NewTunnelingConnectionWithLogger(klog.FromContext(r.Context()), ws)
	both := func() {
		_, _ = client.Close(), backend.Close()
	}
	defer context.AfterFunc(r.Context(), both)()
	defer both()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer both()
		_, _ = io.Copy(backend, client) // either side's end is the end of both
	}()
	_, _ = io.Copy(client, backend)
	both()
	<-done
}

// tunnelled are the SPDY protocols that a request offers in a WebSocket.
func tunnelled(r *http.Request) []string {
	var out []string
	for _, p := range websocket.Subprotocols(r) {
		inner, ok := strings.CutPrefix(p, forwarding.WebsocketsSPDYTunnelingPrefix)
		if ok && strings.HasSuffix(inner, forwarding.KubernetesSuffix) {
			out = append(out, inner)
		}
	}
	return out
}

// dialSPDY upgrades a connection to a kubelet.
func (c *connectors) dialSPDY(ctx context.Context, to *url.URL, protocols []string) (io.ReadWriteCloser, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	req.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	for _, p := range protocols {
		req.Header.Add(httpstream.HeaderProtocolVersion, p)
	}
	resp, err := c.Dialer.kubeletTransport().RoundTrip(req)
	if err != nil {
		return nil, "", apierrors.NewInternalError(fmt.Errorf("error dialing backend: %w", err))
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, "", refused(resp)
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || !strings.EqualFold(resp.Header.Get(httpstream.HeaderUpgrade), spdy.HeaderSpdy31) {
		resp.Body.Close()
		return nil, "", apierrors.NewInternalError(errors.New("unable to upgrade connection: the kubelet speaks no SPDY"))
	}
	return conn, resp.Header.Get(httpstream.HeaderProtocolVersion), nil
}
