package certificates_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/keyutil"

	"skiff/kubelet/certificates"
)

// A node that was off until its certificate ended is told so, and what helps.
//
// Covers: node.certificates
func TestBootstrapWithoutToken(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := func(t *testing.T, ends time.Time) string {
		t.Helper()
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: ends.Add(-time.Hour), NotAfter: ends}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "kubelet.conf")
		err = clientcmd.WriteToFile(clientcmdapi.Config{
			Clusters:  map[string]*clientcmdapi.Cluster{"c": {Server: "https://192.0.2.1:6443"}},
			AuthInfos: map[string]*clientcmdapi.AuthInfo{"n": {ClientCertificateData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), ClientKeyData: keyPEM}},
			Contexts:  map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "n"}}, CurrentContext: "x",
		}, file)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, tt := range []struct {
		name string
		file func(*testing.T) string
		want string
	}{
		{"it holds", func(t *testing.T) string { return kubeconfig(t, time.Now().Add(time.Hour)) }, ""},
		{"it has ended", func(t *testing.T) string { return kubeconfig(t, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) }, "ended at 2026-01-02T03:04:05Z, and the bootstrap kubeconfig that could ask for another is gone: put one with a new token"},
		{"there never was one", func(t *testing.T) string { return filepath.Join(t.TempDir(), "kubelet.conf") }, "load bootstrap kubeconfig"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			err := certificates.Bootstrap(t.Context(), certificates.BootstrapConfig{
				Bootstrap: filepath.Join(dir, "bootstrap-kubelet.conf"), Kubeconfig: tt.file(t), Dir: dir, NodeName: "n1",
			})
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
