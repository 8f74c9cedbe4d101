package encryption

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	kmsv2 "k8s.io/kms/apis/v2"
)

const (
	kmsTimeout = 3 * time.Second
	seedSize   = 32
	// A seed is written with for so long after the service last said that its key
	// is the current one.
	kmsGrace = 3 * time.Minute
	// How often the service is asked, while it answers and while it does not.
	kmsWell, kmsIll = time.Minute, 10 * time.Second
	// maxSecrets bounds the secrets that are kept decrypted.
	maxSecrets = 1000
)

// kms encrypts values with a seed that a key service keeps for it. The service is
// asked when a new seed is needed or an old one is met, never for each value.
type kms struct {
	name    string
	timeout time.Duration
	conn    *grpc.ClientConn
	client  kmsv2.KeyManagementServiceClient
	now     func() time.Time

	renewing sync.Mutex // lets one at a time ask for the key

	mu      sync.Mutex // guards what follows, and is never held while the service is asked
	current *seed
	secrets map[[sha256.Size]byte][]byte
	ill     error
}

// seed is what values are written with.
type seed struct {
	plain, encrypted []byte
	keyID            string
	annotations      map[string][]byte
	until            time.Time
}

func newKMS(c *apiserverv1.KMSConfiguration, p *field.Path) (*kms, field.ErrorList) {
	var errs field.ErrorList
	if c.APIVersion != "v2" {
		errs = append(errs, field.NotSupported(p.Child("apiVersion"), c.APIVersion, []string{"v2"}))
	}
	switch {
	case c.Name == "":
		errs = append(errs, field.Required(p.Child("name"), "name is a mandatory field for a provider"))
	case strings.Contains(c.Name, ":"):
		errs = append(errs, field.Invalid(p.Child("name"), c.Name, "invalid KMS provider name "+c.Name+", must not contain ':'"))
	}
	if c.CacheSize != nil {
		errs = append(errs, field.Invalid(p.Child("cachesize"), *c.CacheSize, "cachesize is not supported in v2"))
	}
	timeout := kmsTimeout
	if c.Timeout != nil {
		timeout = c.Timeout.Duration
	}
	if timeout <= 0 {
		errs = append(errs, field.Invalid(p.Child("timeout"), timeout.String(), "timeout should be a positive value"))
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case c.Endpoint == "":
		errs = append(errs, field.Invalid(p.Child("endpoint"), "", "endpoint is a mandatory field for a kms"))
	case err != nil:
		errs = append(errs, field.Invalid(p.Child("endpoint"), c.Endpoint, "invalid endpoint for kms provider, error: "+err.Error()))
	case u.Scheme != "unix":
		errs = append(errs, field.Invalid(p.Child("endpoint"), c.Endpoint, fmt.Sprintf("unsupported scheme %q for KMS provider, only unix is supported", u.Scheme)))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	// unix:///@name is a socket without a file.
	target := "unix://" + u.Path
	if abstract, ok := strings.CutPrefix(u.Path, "/@"); ok {
		target = "unix-abstract:" + abstract
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		return nil, field.ErrorList{field.Invalid(p.Child("endpoint"), c.Endpoint, err.Error())}
	}
	return &kms{
		name: c.Name, timeout: timeout, conn: conn, client: kmsv2.NewKeyManagementServiceClient(conn), now: time.Now,
		secrets: map[[sha256.Size]byte][]byte{},
	}, nil
}

func (k *kms) prefix() string { return encrypted + "kms:v2:" + k.name + ":" }

// renew asks the service for its current key, and for a seed of it where the one at
// hand is of another.
func (k *kms) renew(ctx context.Context) error {
	k.renewing.Lock()
	defer k.renewing.Unlock()
	err := k.tryRenew(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ill = err
	return err
}

// usable is the seed at hand while it may be written with.
func (k *kms) usable() *seed {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil || k.now().After(k.current.until) {
		return nil
	}
	return k.current
}

func (k *kms) tryRenew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	st, err := k.client.Status(ctx, &kmsv2.StatusRequest{})
	if err != nil {
		return fmt.Errorf("key service %q: status: %w", k.name, err)
	}
	switch {
	case st.Healthz != "ok":
		return fmt.Errorf("key service %q is not well: %s", k.name, st.Healthz)
	case st.Version != "v2" && st.Version != "v2beta1":
		return fmt.Errorf("key service %q speaks %q: want v2", k.name, st.Version)
	case !validKeyID(st.KeyId):
		return fmt.Errorf("key service %q: its key id is empty or longer than 1 KiB", k.name)
	}
	k.mu.Lock()
	if c := k.current; c != nil && c.keyID == st.KeyId {
		next := *c
		next.until = k.now().Add(kmsGrace)
		k.current = &next
		k.mu.Unlock()
		return nil
	}
	k.mu.Unlock()
	plain := make([]byte, seedSize)
	if _, err := rand.Read(plain); err != nil {
		return err
	}
	got, err := k.client.Encrypt(ctx, &kmsv2.EncryptRequest{Plaintext: plain, Uid: string(uuid.NewUUID())})
	switch {
	case err != nil:
		return fmt.Errorf("key service %q: encrypting a new seed: %w", k.name, err)
	case !validKeyID(got.KeyId):
		return fmt.Errorf("key service %q: its key id is empty or longer than 1 KiB", k.name)
	case len(got.Ciphertext) == 0 || bytes.Contains(got.Ciphertext, plain):
		return fmt.Errorf("key service %q did not encrypt the seed", k.name)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = &seed{plain: plain, encrypted: got.Ciphertext, keyID: got.KeyId, annotations: got.Annotations, until: k.now().Add(kmsGrace)}
	k.remember(&sealed{keyID: got.KeyId, secret: got.Ciphertext, annotations: got.Annotations}, plain)
	return nil
}

func validKeyID(id string) bool { return id != "" && len(id) <= 1024 }

// seal encrypts a value.
func (k *kms) seal(ctx context.Context, plain, key []byte) ([]byte, error) {
	c := k.usable()
	if c == nil {
		if err := k.renew(ctx); err != nil {
			return nil, err
		}
		if c = k.usable(); c == nil {
			return nil, fmt.Errorf("key service %q gave no key", k.name)
		}
	}
	data, err := sealDerived(c.plain, plain, key)
	if err != nil {
		return nil, err
	}
	return (&sealed{data: data, keyID: c.keyID, secret: c.encrypted, annotations: c.annotations, derived: true}).encode(), nil
}

// open decrypts a value. stale tells that the service has another key by now.
func (k *kms) open(ctx context.Context, stored, key []byte) (plain []byte, stale bool, err error) {
	s, err := decodeSealed(stored)
	if err != nil {
		return nil, false, err
	}
	secret, err := k.secret(ctx, s)
	if err != nil {
		return nil, false, err
	}
	if plain, err = unseal(secret, s.derived, s.data, key); err != nil {
		return nil, false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return plain, k.current != nil && (k.current.keyID != s.keyID || !bytes.Equal(k.current.encrypted, s.secret)), nil
}

// secret is what a value was encrypted with: from memory, or from the service.
func (k *kms) secret(ctx context.Context, s *sealed) ([]byte, error) {
	id := secretID(s)
	k.mu.Lock()
	known, ok := k.secrets[id]
	k.mu.Unlock()
	if ok {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	got, err := k.client.Decrypt(ctx, &kmsv2.DecryptRequest{Ciphertext: s.secret, KeyId: s.keyID, Annotations: s.annotations, Uid: string(uuid.NewUUID())})
	if err != nil {
		return nil, fmt.Errorf("key service %q: decrypting with key %q: %w", k.name, s.keyID, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remember(s, got.Plaintext)
	return got.Plaintext, nil
}

// remember keeps a secret decrypted. The caller holds mu.
func (k *kms) remember(s *sealed, secret []byte) {
	if len(k.secrets) >= maxSecrets {
		clear(k.secrets)
	}
	k.secrets[secretID(s)] = secret
}

// secretID names an encrypted secret with all that the service decrypts it by.
func secretID(s *sealed) [sha256.Size]byte {
	return sha256.Sum256((&sealed{data: []byte{0}, keyID: s.keyID, secret: s.secret, annotations: s.annotations}).encode())
}

// watch asks the service now and then, until ctx ends.
func (k *kms) watch(ctx context.Context) {
	for {
		wait := kmsWell
		if err := k.renew(ctx); err != nil {
			wait = kmsIll
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// healthy says whether values can be written.
func (k *kms) healthy() error {
	if k.usable() != nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ill != nil {
		return k.ill
	}
	return errors.New("the key service " + k.name + " has not answered yet")
}
