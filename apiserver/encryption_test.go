package apiserver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
	"skiff/kine"
)

// TestEncryptionAtRest turns encryption on for Secrets that are there already.
//
// Covers: api.encryption
func TestEncryptionAtRest(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := apiservertest.Start(t, nil)
	secrets := s.Client.CoreV1().Secrets("default")
	if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "old"}, StringData: map[string]string{"k": "plain-text"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	path := filepath.Join(s.Dir, "encryption.yaml")
	if err := os.WriteFile(path, []byte(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox: {keys: [{name: k, secret: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}]}
  - identity: {}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	var kv kine.Store
	s = apiservertest.StartIn(t, s.Dir, func(c *apiserver.Config) { c.EncryptionConfigFile, kv = path, c.Store })
	secrets = s.Client.CoreV1().Secrets("default")
	stored := func(name string) string {
		t.Helper()
		res, err := kv.Get(ctx, "/registry/secrets/default/"+name, kine.ReadOptions{})
		if err != nil || len(res.KVs) != 1 {
			t.Fatalf("%v %v", res, err)
		}
		return string(res.KVs[0].Value)
	}
	old, err := secrets.Get(ctx, "old", metav1.GetOptions{})
	if err != nil || string(old.Data["k"]) != "plain-text" || !strings.Contains(stored("old"), "plain-text") {
		t.Fatalf("%+v, %v", old, err)
	}
	// An update that changes nothing writes it anew.
	if _, err := secrets.Update(ctx, old, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "new"}, StringData: map[string]string{"k": "plain-text"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"old", "new"} {
		if v := stored(name); !strings.HasPrefix(v, "k8s:enc:secretbox:v1:k:") || strings.Contains(v, "plain-text") {
			t.Errorf("%s is stored as %q", name, v)
		}
		got, err := secrets.Get(ctx, name, metav1.GetOptions{})
		if err != nil || string(got.Data["k"]) != "plain-text" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
