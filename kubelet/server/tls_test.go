package server

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/util/cert"

	"skiff/kubelet/config"
	"skiff/kubelet/stats"
)

// The server shows the certificate that its configuration names, speaks no older TLS
// than that allows.
//
// Covers: node.certificates
func TestConfiguredTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	certPEM, keyPEM, err := cert.GenerateSelfSignedCertKey("one.example", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{keyFile: keyPEM, certFile: certPEM} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf, err := config.Parse([]byte("tlsCertFile: " + certFile + "\ntlsPrivateKeyFile: " + keyFile + "\ntlsMinVersion: VersionTLS13"))
	if err != nil {
		t.Fatal(err)
	}
	measured, err := stats.New(stats.Config{Runtime: noRuntime{}, Images: noImages{}, Pods: func() []*v1.Pod { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Client: fake.NewClientset(), Kubelet: conf, NodeName: "n", Runtime: noRuntime{}, Pods: noPods{}, Stats: measured})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.tlsConfig()
	if err != nil {
		t.Fatal(err)
	}
	if got.MinVersion != tls.VersionTLS13 {
		t.Errorf("the lowest version is %x", got.MinVersion)
	}
	pair, err := got.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Leaf.VerifyHostname("one.example"); err != nil {
		t.Error(err)
	}
}
