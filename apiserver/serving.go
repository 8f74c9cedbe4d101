package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/http2"
)

func (s *Server) port() int {
	if a, ok := s.listener.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return s.cfg.Port
}

func (s *Server) listen() error {
	if s.listener = s.cfg.Listener; s.listener != nil {
		return nil
	}
	addr := net.JoinHostPort(s.cfg.BindAddress.String(), fmt.Sprint(s.cfg.Port))
	if s.cfg.BindAddress == netip.IPv6Unspecified() {
		addr = fmt.Sprintf(":%d", s.cfg.Port)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("apiserver: listen on %s: %w: stop what listens there, or choose another port with --secure-port", addr, err)
	}
	s.listener = l
	return nil
}

// serve answers over TLS, HTTP/1.1 and HTTP/2.
func (s *Server) serve(ctx context.Context) error {
	if s.cfg.Certificate == nil {
		return errors.New("apiserver: no serving certificate: give --tls-cert-file and --tls-private-key-file")
	}
	tlsConfig := &tls.Config{
		MinVersion: s.cfg.TLSMinVersion, CipherSuites: s.cfg.TLSCipherSuites, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: s.cfg.Certificate,
		// The authenticator verifies: a certificate of an unknown authority is no
		// reason to end the connection.
		ClientAuth: tls.RequestClientCert,
	}
	if s.cfg.ClientCA != nil {
		tlsConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			c := tlsConfig.Clone()
			c.GetConfigForClient = nil
			c.ClientCAs = s.cfg.ClientCA.Pool()
			return c, nil
		}
	}
	server := &http.Server{
		Handler: s.handler, TLSConfig: tlsConfig, ReadHeaderTimeout: s.cfg.HeaderTimeout, IdleTimeout: 90 * time.Second,
		MaxHeaderBytes: 1 << 20, BaseContext: func(net.Listener) context.Context { return ctx },
		// What scanners and broken clients do is of interest to who looks for it.
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		// A client that is gone without a word still holds its watches.
		HTTP2: &http.HTTP2Config{SendPingTimeout: s.cfg.StalledClient, PingTimeout: s.cfg.StalledClient, WriteByteTimeout: s.cfg.StalledClient},
	}
	if err := http2.ConfigureServer(server, &http2.Server{MaxConcurrentStreams: 250, IdleTimeout: 90 * time.Second, MaxReadFrameSize: 1 << 20}); err != nil {
		return err
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			server.Close()
		}
	})
	err := server.ServeTLS(s.listener, "", "")
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
