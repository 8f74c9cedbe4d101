package pki

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func TestEnsureMakesAChainThatVerifies(t *testing.T) {
	for _, alg := range []Algorithm{"", ECDSAP384, RSA2048} {
		t.Run(string(alg), func(t *testing.T) {
			dir := t.TempDir()
			cfg := Config{Algorithm: alg, APIServerNames: []string{"node-1", "192.0.2.7", "10.96.0.1"}}
			if err := Ensure(dir, cfg, now); err != nil {
				t.Fatal(err)
			}
			ca, err := LoadCA(certFile(dir, RootCA), keyFile(dir, RootCA))
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AddCert(ca.Cert)
			certs, err := LoadCerts(certFile(dir, APIServer))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"192.0.2.7", "10.96.0.1", "127.0.0.1", "node-1", "kubernetes.default.svc.cluster.local"} {
				if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
					t.Errorf("name %s: %v", name, err)
				}
			}
		})
	}
}

func TestEnsureKeepsWhatExistsAndWritesPrivately(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, Config{}, now); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	if err := Ensure(dir, Config{}, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for path, data := range snapshot(t, dir) {
		if before[path] != data {
			t.Errorf("%s was replaced", path)
		}
	}
	for path := range before {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", path, info.Mode().Perm())
		}
	}
}

func TestEnsureRefusesWhatDoesNotFit(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		cfg   Config
		want  string
	}{
		{"a leaf of another authority", func(t *testing.T, dir string) {
			other := t.TempDir()
			if err := Ensure(other, Config{}, now); err != nil {
				t.Fatal(err)
			}
			copyFile(t, certFile(other, APIServer), certFile(dir, APIServer))
		}, Config{}, "not signed by ca.crt"},
		{"a name that is missing", func(*testing.T, string) {}, Config{APIServerNames: []string{"new.example"}}, `lacks the name "new.example"`},
		{"a key of another authority", func(t *testing.T, dir string) {
			copyFile(t, keyFile(dir, FrontProxyCA), keyFile(dir, RootCA))
		}, Config{}, "does not belong to"},
		{"a truncated certificate", func(t *testing.T, dir string) {
			if err := os.WriteFile(certFile(dir, RootCA), []byte("-----BEGIN"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, Config{}, "no PEM certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := Ensure(dir, Config{}, now); err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, dir)
			err := Ensure(dir, tt.cfg, now)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// Covers: certs
func TestRenewDueRenewsAfterTwoThirds(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir, Config{APIServerNames: []string{"node-1"}}, now); err != nil {
		t.Fatal(err)
	}
	if got, err := RenewDue(dir, Config{}, now.Add(200*24*time.Hour)); err != nil || len(got) != 0 {
		t.Fatalf("after 200 days: renewed %v, error %v", got, err)
	}
	reloading, err := NewReloading(certFile(dir, APIServer), keyFile(dir, APIServer))
	if err != nil {
		t.Fatal(err)
	}
	got, err := RenewDue(dir, Config{}, now.Add(250*24*time.Hour))
	if err != nil || len(got) != len(Plan(Config{})) {
		t.Fatalf("after 250 days: renewed %v, error %v", got, err)
	}
	cert, err := reloading.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if leaf.NotAfter.Before(now.Add(600 * 24 * time.Hour)) {
		t.Errorf("the reloaded certificate ends %v: the old one is still served", leaf.NotAfter)
	}
	if err := leaf.VerifyHostname("node-1"); err != nil {
		t.Errorf("the renewed certificate lost a name: %v", err)
	}
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
