package main

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"skiff/apiserver"
	"skiff/cluster/pki"
)

// kube-apiserver serves with the pair that it finds in --cert-dir; test suites put
// one there that an authority of their own has signed.
func TestCredentialsInCertDir(t *testing.T) {
	made := t.TempDir()
	if err := pki.Ensure(made, pki.Config{APIServerNames: []string{"localhost"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	pair := func(from, to string) {
		t.Helper()
		for _, name := range []string{"apiserver.crt", "apiserver.key"} {
			raw, err := os.ReadFile(filepath.Join(from, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	found, empty := t.TempDir(), t.TempDir()
	pair(made, found)
	served := func(dir string) [][]byte {
		t.Helper()
		var cfg apiserver.Config
		if err := credentials(&cfg, &apiserverOwn{certDir: dir, signingKey: filepath.Join(made, "sa.key")}); err != nil {
			t.Fatal(err)
		}
		cert, err := cfg.Certificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return cert.Certificate
	}
	want, err := tls.LoadX509KeyPair(filepath.Join(made, "apiserver.crt"), filepath.Join(made, "apiserver.key"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.Certificate, served(found)); d != "" {
		t.Errorf("another certificate is served than the one in the folder (-folder +served):\n%s", d)
	}
	if cmp.Equal(want.Certificate, served(empty)) {
		t.Error("an empty folder gave the same certificate")
	}
}
