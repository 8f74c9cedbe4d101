package connect

import (
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"skiff/apiserver/handlers"
)

// logSocket sends a log as the messages of a WebSocket, for clients that ask for
// one: binary.k8s.io carries it as it is, base64.binary.k8s.io as base64. It
// reports whether the client did.
func (c *connectors) logSocket(w http.ResponseWriter, r *http.Request, p passing) bool {
	if !wsstream.IsWebSocketRequest(r) {
		return false
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, p.to.String(), nil)
	if err != nil {
		handlers.WriteError(w, r, err)
		return true
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		handlers.WriteError(w, r, apierrors.NewInternalError(fmt.Errorf("error dialing backend: %w", err)))
		return true
	}
	defer func() { _ = resp.Body.Close() }() // it was read, or has no more readers
	if err := p.answered(resp); err != nil {
		handlers.WriteError(w, r, err)
		return true
	}
	if err := wsstream.NewReader(resp.Body, true, wsstream.NewDefaultReaderProtocols()).Copy(w, r); err != nil {
		logOf(c.Dialer).Debug("a log over a WebSocket broke off", "to", p.to.Host, "err", err)
	}
	return true
}
