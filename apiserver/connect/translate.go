package connect

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	protocol "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/remotecommand"
	clientspdy "k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

const (
	// idleStreams is how long a session may be silent, as kubelets have it.
	idleStreams = 4 * time.Hour
	// streamPing is how often a kubelet's connection is tried.
	streamPing = 5 * time.Second
	// lastWords is the time for the outcome to reach the client.
	lastWords = 10 * time.Second
)

// translate speaks version 5 of the channel protocol with the client, and SPDY
// with the kubelet: a kubelet's WebSockets know no half-close of stdin and so no
// version 5.
func (c *connectors) translate(w http.ResponseWriter, r *http.Request, to *url.URL) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	q := r.URL.Query()
	opts := remotecommand.StreamOptions{Tty: flag(q, "tty")}
	in, out, errs := flag(q, "stdin"), flag(q, "stdout"), flag(q, "stderr")
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{protocol.StreamProtocolV5Name: {
		Binary: true,
		Channels: []wsstream.ChannelType{
			protocol.StreamStdIn:  channelIf(in, wsstream.ReadChannel),
			protocol.StreamStdOut: channelIf(out, wsstream.WriteChannel),
			protocol.StreamStdErr: channelIf(errs, wsstream.WriteChannel),
			protocol.StreamErr:    wsstream.WriteChannel,
			// Sizes that nobody reads would block what comes behind them.
			protocol.StreamResize: channelIf(opts.Tty, wsstream.ReadChannel),
		},
	}})
	conn.SetIdleTimeout(idleStreams)
	// To the library's log each end of a session is an error.
	quiet := r.WithContext(klog.NewContext(ctx, klog.Logger{}))
	_, streams, err := conn.Open(endTelling{w, cancel}, quiet)
	if err != nil {
		return // the handshake has answered
	}
	defer conn.Close()
	if in {
		opts.Stdin = streams[protocol.StreamStdIn]
	}
	first := streams[protocol.StreamErr]
	if errs {
		opts.Stderr = streams[protocol.StreamStdErr]
		first = streams[protocol.StreamStdErr]
	}
	if out {
		opts.Stdout = streams[protocol.StreamStdOut]
		first = streams[protocol.StreamStdOut]
	}
	if opts.Tty {
		opts.TerminalSizeQueue = &sizes{ctx: ctx, from: json.NewDecoder(streams[protocol.StreamResize])}
	}
	// Clients take an empty message as the word that the session is there.
	if _, err := first.Write(nil); err != nil {
		return
	}
	outcome := outcomeOf(c.runOnKubelet(ctx, to, opts))
	b, err := json.Marshal(outcome)
	if err == nil {
		conn.SetWriteDeadline(lastWords)
		_, err = streams[protocol.StreamErr].Write(b)
	}
	if err != nil && ctx.Err() == nil {
		logOf(c.Dialer).Debug("the outcome of a session did not reach its client", "err", err)
	}
}

func channelIf(wanted bool, kind wsstream.ChannelType) wsstream.ChannelType {
	if wanted {
		return kind
	}
	return wsstream.IgnoreChannel
}

// runOnKubelet is a session at the kubelet, until one of both sides ends it.
func (c *connectors) runOnKubelet(ctx context.Context, to *url.URL, opts remotecommand.StreamOptions) error {
	upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{UpgradeTransport: c.Dialer.kubeletTransport(), PingPeriod: streamPing})
	if err != nil {
		return err
	}
	e, err := remotecommand.NewSPDYExecutorRejectRedirects(upgrader, clientspdy.NewUpgraderForStreaming(upgrader), http.MethodPost, to)
	if err != nil {
		return err
	}
	return e.StreamWithContext(ctx, opts)
}

// outcomeOf is what the error channel says at the end of a session.
func outcomeOf(err error) metav1.Status {
	var api apierrors.APIStatus
	var exit exec.CodeExitError
	switch {
	case err == nil:
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(err, &api):
		return api.Status()
	case errors.As(err, &exit) && exit.Exited():
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: protocol.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{
				Type: protocol.ExitCodeCauseType, Message: strconv.Itoa(exit.ExitStatus()),
			}}},
		}
	}
	// What the kubelet reported as internal is not so twice.
	text := strings.TrimPrefix(err.Error(), internalPrefix)
	return apierrors.NewInternalError(errors.New(text)).Status()
}

// internalPrefix begins the messages of internal errors.
const internalPrefix = "Internal error occurred: "

// sizes are the terminal's sizes as the client tells them.
type sizes struct {
	ctx  context.Context
	from *json.Decoder
}

// Next implements remotecommand.TerminalSizeQueue.
func (s *sizes) Next() *remotecommand.TerminalSize {
	var size remotecommand.TerminalSize
	if s.ctx.Err() != nil || s.from.Decode(&size) != nil {
		return nil
	}
	return &size
}

// endTelling calls gone when a connection that was taken over is closed, which
// is how the session at the kubelet learns that its client has left.
type endTelling struct {
	http.ResponseWriter
	gone func()
}

// Hijack implements http.Hijacker.
func (w endTelling) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return endTellingConn{conn, w.gone}, rw, nil
}

type endTellingConn struct {
	net.Conn
	gone func()
}

// Close implements io.Closer.
func (c endTellingConn) Close() error {
	c.gone()
	return c.Conn.Close()
}
