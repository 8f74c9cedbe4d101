package etcdserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/etcdserver"
	"skiff/kine/kinetest"
	"skiff/kine/sqlite"
)

func store(t *testing.T) kine.Store {
	t.Helper()
	s, err := sqlite.New(sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, s)
	return s
}

// talk writes and reads through a face.
func talk(t *testing.T, endpoint string, config *tls.Config) error {
	t.Helper()
	s, err := etcd.New(etcd.Config{Endpoints: []string{endpoint}, TLS: config, Timeout: 2 * time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	short, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	_, err = s.Create(short, "/a", []byte("x"), 0)
	return err
}

func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "face") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "etcd.sock")
	// A killed process leaves its socket.
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	s, err := etcdserver.New(etcdserver.Config{Store: store(t), Listen: []string{"unix://" + path}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
	if err := talk(t, "unix://"+path, nil); err != nil {
		t.Error(err)
	}
	// A second server does not take it away.
	second, err := etcdserver.New(etcdserver.Config{Store: store(t), Listen: []string{"unix://" + path}})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil {
		t.Error("a second server listens on the same socket")
	}
}

// selfSigned is a certificate that is its own authority.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestClientCertificatesAreDemanded(t *testing.T) {
	cert, pool := selfSigned(t)
	s, err := etcdserver.New(etcdserver.Config{Store: store(t), Listen: []string{"https://127.0.0.1:0"}, TLS: &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	endpoint := "https://" + s.Addrs()[0].String()
	if err := talk(t, endpoint, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := talk(t, endpoint, &tls.Config{RootCAs: pool}); err == nil {
		t.Error("a client without a certificate was served")
	}
}
