package encryption

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	kmsv2 "k8s.io/kms/apis/v2"
)

// service is a key service: its encryption is a mask of the key.
type service struct {
	kmsv2.UnimplementedKeyManagementServiceServer
	socket string

	mu       sync.Mutex
	key      string
	down     bool
	decrypts int
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{socket: filepath.Join(t.TempDir(), "kms.sock"), key: "one"}
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	kmsv2.RegisterKeyManagementServiceServer(srv, s)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *service) set(key string, down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.down = key, down
}

func mask(key string, b []byte) []byte {
	out := []byte(key + "|")
	for i := range b {
		out = append(out, b[i]^key[i%len(key)]^0x55)
	}
	return out
}

func (s *service) Status(context.Context, *kmsv2.StatusRequest) (*kmsv2.StatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("down")
	}
	return &kmsv2.StatusResponse{Version: "v2", Healthz: "ok", KeyId: s.key}, nil
}

func (s *service) Encrypt(_ context.Context, r *kmsv2.EncryptRequest) (*kmsv2.EncryptResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("down")
	}
	return &kmsv2.EncryptResponse{Ciphertext: mask(s.key, r.Plaintext), KeyId: s.key, Annotations: map[string][]byte{"of.example.com": []byte(s.key)}}, nil
}

func (s *service) Decrypt(_ context.Context, r *kmsv2.DecryptRequest) (*kmsv2.DecryptResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("down")
	}
	s.decrypts++
	rest, ok := bytes.CutPrefix(r.Ciphertext, []byte(r.KeyId+"|"))
	if !ok || string(r.Annotations["of.example.com"]) != r.KeyId {
		return nil, errors.New("not mine")
	}
	return &kmsv2.DecryptResponse{Plaintext: mask(r.KeyId, rest)[len(r.KeyId)+1:]}, nil
}

func config(providers string) []byte {
	return []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- {resources: [secrets], providers: [" + providers + "]}\n")
}

func (s *service) provider() string {
	return fmt.Sprintf("{kms: {apiVersion: v2, name: p, endpoint: 'unix://%s', timeout: 2s}}", s.socket)
}

func parsed(t *testing.T, providers string) *Encryption {
	t.Helper()
	e, err := Parse(config(providers))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.current.Load().close)
	return e
}

const key = "/registry/secrets/a/b"

// Covers: api.encryption
func TestKMS(t *testing.T) {
	ctx, s := t.Context(), newService(t)
	e := parsed(t, s.provider())
	tr := e.For("", "secrets")
	write := func() []byte {
		t.Helper()
		stored, err := tr.ToStorage(ctx, key, []byte("secret text"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(stored, []byte("k8s:enc:kms:v2:p:")) || bytes.Contains(stored, []byte("secret text")) {
			t.Fatalf("stored %q", stored)
		}
		return stored
	}
	read := func(e *Encryption, stored []byte) (stale bool) {
		t.Helper()
		plain, stale, err := e.For("", "secrets").FromStorage(ctx, key, stored)
		if err != nil || string(plain) != "secret text" {
			t.Fatalf("read %q, %v", plain, err)
		}
		return stale
	}
	first := write()
	if read(e, first) {
		t.Error("a value of the current key is stale")
	}
	if s.decrypts != 0 {
		t.Errorf("the service was asked %d times for a seed that is known", s.decrypts)
	}
	// Another server has to ask, once.
	other := parsed(t, s.provider())
	read(other, first)
	read(other, write())
	if s.decrypts != 1 {
		t.Errorf("another server asked %d times, want once", s.decrypts)
	}
	if _, _, err := tr.FromStorage(ctx, key+"x", first); err == nil {
		t.Error("a value is read under another key than its own")
	}

	// A new key makes what is stored stale, and is written with.
	s.set("two", false)
	if err := e.current.Load().services[0].renew(ctx); err != nil {
		t.Fatal(err)
	}
	if !read(e, first) {
		t.Error("a value of the key before is not stale")
	}
	if second := write(); read(e, second) || !bytes.Contains(second, []byte("two|")) {
		t.Error("the new key is not written with")
	}

	// Without the service the seed at hand does for a while, and reads of what is known go on.
	s.set("two", true)
	k := e.current.Load().services[0]
	if err := k.renew(ctx); err == nil {
		t.Fatal("a service that is down gives no error")
	}
	if err := e.Healthy(ctx); err != nil {
		t.Errorf("with a usable seed: %v", err)
	}
	write()
	k.now = func() time.Time { return time.Now().Add(kmsGrace + time.Second) }
	if _, err := tr.ToStorage(ctx, key, []byte("x")); err == nil || !strings.Contains(err.Error(), `key service "p"`) {
		t.Errorf("a write with a seed that is too old: %v", err)
	}
	if err := e.Healthy(ctx); err == nil {
		t.Error("the server is well without a usable seed")
	}
	read(e, first)
}

func TestKMSConfiguration(t *testing.T) {
	for name, tc := range map[string]struct{ provider, want string }{
		"version 1":   {"{kms: {apiVersion: v1, name: p, endpoint: 'unix:///s'}}", "kms.apiVersion: Unsupported value"},
		"no endpoint": {"{kms: {apiVersion: v2, name: p}}", "kms.endpoint: Invalid value: \"\": endpoint is a mandatory field for a kms"},
		"tcp":         {"{kms: {apiVersion: v2, name: p, endpoint: 'tcp://h:1'}}", `unsupported scheme "tcp" for KMS provider`},
		"a colon":     {"{kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///s'}}", "kms.name: Invalid value"},
		"a cache":     {"{kms: {apiVersion: v2, name: p, endpoint: 'unix:///s', cachesize: 5}}", "cachesize is not supported in v2"},
		"no time":     {"{kms: {apiVersion: v2, name: p, endpoint: 'unix:///s', timeout: 0s}}", "timeout should be a positive value"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse(config(tc.provider)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestDamagedValues(t *testing.T) {
	s := newService(t)
	e := parsed(t, s.provider())
	tr := e.For("", "secrets")
	good, err := tr.ToStorage(t.Context(), key, []byte("secret text"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if plain, _, err := tr.FromStorage(t.Context(), key, bad); err == nil && string(plain) != "secret text" {
			t.Fatalf("a value that is damaged at %d is read as %q", i, plain)
		}
		if plain, _, err := tr.FromStorage(t.Context(), key, good[:i]); err == nil {
			t.Fatalf("a value that is cut at %d is read as %q", i, plain)
		}
	}
}

// TestReload: a file that changes is followed, one that is wrong changes nothing.
func TestReload(t *testing.T) {
	ctx, s := t.Context(), newService(t)
	path := filepath.Join(t.TempDir(), "encryption.yaml")
	put := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(config("{identity: {}}"))
	e, err := Load(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := e.changed(ctx); c != nil || err != nil {
		t.Fatalf("a file that did not change: %v, %v", c, err)
	}
	put([]byte("nonsense"))
	if c, err := e.changed(ctx); c != nil || err == nil {
		t.Fatalf("nonsense: %v, %v", c, err)
	}
	put(config(s.provider() + ", {identity: {}}"))
	s.set("one", true)
	if c, err := e.changed(ctx); c != nil || err == nil {
		t.Fatalf("a key service that does not answer: %v, %v", c, err)
	}
	s.set("one", false)
	tr := e.For("", "secrets")
	plain, err := tr.ToStorage(ctx, key, []byte("v"))
	if err != nil || string(plain) != "v" {
		t.Fatalf("before: %q, %v", plain, err)
	}
	c, err := e.changed(ctx)
	if err != nil || c == nil {
		t.Fatalf("the new file: %v, %v", c, err)
	}
	e.current.Store(c)
	t.Cleanup(c.close)
	stored, err := tr.ToStorage(ctx, key, []byte("v"))
	if err != nil || !bytes.HasPrefix(stored, []byte("k8s:enc:kms:v2:p:")) {
		t.Errorf("after: %q, %v", stored, err)
	}
	if got, stale, err := tr.FromStorage(ctx, key, plain); err != nil || !stale || string(got) != "v" {
		t.Errorf("what was plain: %q, %v, %v", got, stale, err)
	}
}
