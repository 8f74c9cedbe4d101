package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/http"
	"sync/atomic"
	"time"
)

// secureServer serves HTTPS with a certificate that it makes.
func secureServer(addr string, h http.Handler) (*http.Server, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &http.Server{Addr: addr, Handler: h, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}}, nil
}

// healthServer answers grpc.health.v1.Health/Check, whose messages are so small
// that they need no library: a frame of a flag and a length, and field 1, the
// state, of which 1 is SERVING and 2 NOT_SERVING.
func healthServer(addr string, healthy *atomic.Bool) *http.Server {
	m := http.NewServeMux()
	m.HandleFunc("POST /grpc.health.v1.Health/Check", func(w http.ResponseWriter, _ *http.Request) {
		state := byte(2)
		if healthy.Load() {
			state = 1
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		if _, err := w.Write([]byte{0, 0, 0, 0, 2, 0x08, state}); err == nil {
			w.Header().Set("Grpc-Status", "0")
		}
	})
	s := &http.Server{Addr: addr, Handler: m, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}
